from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from churn_serving.errors import ModelCorruptedError, RunnerUnreachableError
from churn_serving.http.api import ENDPOINTS, warm_up
from churn_serving.inference.batching import InlineRunner, Runner
from churn_serving.runtime import worker as worker_module
from churn_serving.runtime.worker import Worker
from churn_serving.settings import Settings
from churn_serving.telemetry.metrics import (
    BATCH_SIZE,
    BREAKER_OPENED,
    BREAKER_STATE,
    HTTP_IN_FLIGHT,
    PREDICTIONS,
    QUEUE_CAPACITY,
    QUEUE_DEPTH,
    WORKERS,
    WORKERS_LIVE,
    WORKERS_READY,
    Family,
)
from tests.doubles import MODEL, circuit_breaker, count_of, sample_of, service_state

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row
    from churn_serving.runtime.state import ServiceState
    from tests.package.conftest import Fitted


@pytest.fixture
def state() -> ServiceState:
    return service_state()


@pytest.fixture
def worker(state: ServiceState) -> Worker:
    return Worker(state=state, model=MODEL, settings=Settings(workers=3))


@pytest.fixture
def runner(state: ServiceState, logistic: Fitted) -> InlineRunner:
    return InlineRunner(logistic.scorer, breaker=circuit_breaker(), metrics=state.metrics)


def _live(
    worker: Worker,
    runner_is_ready: Callable[[], Coroutine[None, None, bool]] | None = None,
    meanwhile: Callable[[], Coroutine[None, None, None]] | None = None,
) -> None:
    """Run the worker from its start to its stop."""

    async def life() -> None:
        await worker.start(warm_up, runner_is_ready)
        await asyncio.sleep(0)
        if meanwhile is not None:
            await meanwhile()
        await worker.stop()

    asyncio.run(life())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


def _value(state: ServiceState, family: Family) -> float:
    value: float = getattr(sample_of(state.metrics, family), "value")  # noqa: B009 - of either kind
    return value


def test_its_life_has_three_phases(
    worker: Worker, state: ServiceState, runner: InlineRunner
) -> None:
    async def look() -> None:
        phases.append(state.phase)

    phases = [state.phase]
    worker.load(lambda: (runner, None))
    phases.append(state.phase)
    _live(worker, meanwhile=look)
    phases.append(state.phase)
    assert phases == ["loading", "loading", "ready", "draining"]
    assert state.predictor is None
    assert state.model_load_seconds is not None


def test_its_first_answers_are_counted_for_nobody(
    worker: Worker, state: ServiceState, runner: InlineRunner
) -> None:
    calls: list[int] = []
    scored = state.metrics.scored

    async def look() -> None:
        assert count_of(state.metrics, BATCH_SIZE) == 0
        assert count_of(state.metrics, PREDICTIONS, "test", "churn") == 0
        assert count_of(state.metrics, PREDICTIONS, "test", "no_churn") == 0
        assert not state.metrics.recent

    def noted(customers: int, seconds: float) -> None:
        calls.append(customers)
        scored(customers, seconds)

    state.metrics.scored = noted  # type: ignore[method-assign] # a spy
    worker.load(lambda: (runner, None))
    _live(worker, meanwhile=look)
    assert len(calls) == len(ENDPOINTS)


def test_a_model_that_was_damaged_leaves_it_alive_with_the_sentence(
    worker: Worker, state: ServiceState, caplog: pytest.LogCaptureFixture
) -> None:
    def load() -> tuple[Runner, None]:
        raise ModelCorruptedError("saved_model.pkl is not the file that was registered.")

    async def look() -> None:
        phases.append(state.phase)

    phases: list[str] = []
    worker.load(load)
    _live(worker, meanwhile=look)
    assert phases == ["failed"]
    assert state.failure == (
        "The model 'churn:v1' cannot be loaded: "
        "saved_model.pkl is not the file that was registered."
    )
    (record,) = [r for r in caplog.records if r.levelno == logging.CRITICAL]
    assert "the service stays up, not ready" in record.message
    assert record.exc_info is None


def test_whatever_unpickling_raises_is_named_by_its_kind_and_logged_in_full(
    worker: Worker, state: ServiceState, caplog: pytest.LogCaptureFixture
) -> None:
    def load() -> tuple[Runner, None]:
        raise MemoryError("at 0x4711 in somebody's folder")

    worker.load(load)
    assert state.failure == "The model 'churn:v1' cannot be loaded: MemoryError (the log says more)"
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "0x4711" in caplog.text


def test_a_model_that_loads_but_does_not_answer_is_never_ready(
    worker: Worker, state: ServiceState, runner: InlineRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def score(self, _: FloatArray) -> FloatArray:
            raise RuntimeError

        def score_row(self, _: Row) -> float:
            raise RuntimeError

    async def look() -> None:
        phases.append(state.phase)

    phases: list[str] = []
    monkeypatch.setattr(runner, "_scorer", Broken())
    worker.load(lambda: (runner, None))
    _live(worker, meanwhile=look)
    assert phases == ["failed"]
    assert state.failure == (
        "The model does not answer a valid request: The model failed to score this input."
    )


def test_a_request_that_comes_past_the_edge_without_a_model_is_a_mistake_of_ours(
    worker: Worker,
) -> None:
    with pytest.raises(AssertionError, match="there is no model"):
        _ = worker.predictor


def test_it_follows_the_service_that_runs_the_model(
    worker: Worker,
    state: ServiceState,
    runner: InlineRunner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers: bool | Exception = False

    async def is_ready() -> bool:
        if isinstance(answers, Exception):
            raise answers
        return answers

    async def meanwhile() -> None:
        nonlocal answers
        await _until(lambda: not state.runner_reachable)
        assert state.phase == "loading"
        answers = True
        await _until(lambda: state.phase == "ready")
        for no_answer in (False, RunnerUnreachableError("Gone."), OSError("reset")):
            answers = no_answer
            await _until(lambda: state.phase == "degraded")
            answers = True
            await _until(lambda: state.phase == "ready")

    monkeypatch.setattr(worker_module, "_RUNNER_CHECK_SECONDS", 0.001)
    monkeypatch.setattr(worker_module, "_RUNNER_STARTS_WITHIN_SECONDS", 0.01)
    worker.load(lambda: (runner, None))
    with caplog.at_level(logging.WARNING, "churn_serving"):
        _live(worker, is_ready, meanwhile)
    # Told when it changes, not every second.
    told = [record.message for record in caplog.records]
    assert told == ["The runner does not answer", "The runner answers"] * 4


def test_its_start_waits_for_the_service_that_runs_the_model(
    worker: Worker, state: ServiceState, runner: InlineRunner
) -> None:
    answers = iter([False, False, True])

    async def is_ready() -> bool:
        return next(answers, True)

    async def meanwhile() -> None:
        # A worker beside it may be ready already, and share its socket.
        assert state.phase == "ready"

    worker.load(lambda: (runner, None))
    _live(worker, is_ready, meanwhile)


def test_a_runner_that_is_ready_but_fails_its_first_call_is_asked_again(
    worker: Worker, state: ServiceState, runner: InlineRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 3
    score_row = runner.score_row

    async def score(row: Row) -> float:
        nonlocal failures
        if failures:
            failures -= 1
            raise RunnerUnreachableError("Not yet.")
        return await score_row(row)

    async def is_ready() -> bool:
        return True

    async def meanwhile() -> None:
        await _until(lambda: state.phase == "ready")

    monkeypatch.setattr(worker_module, "_RUNNER_CHECK_SECONDS", 0.001)
    monkeypatch.setattr(runner, "score_row", score)
    worker.load(lambda: (runner, None))
    _live(worker, is_ready, meanwhile)
    assert failures == 0


def test_its_gauges_say_how_it_is(
    worker: Worker, state: ServiceState, runner: InlineRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look() -> None:
        state.in_flight = 7
        monkeypatch.setattr(runner, "queue_depth", 11)
        monkeypatch.setattr(runner, "queue_capacity", 50)
        for _ in range(20):
            runner.breaker.failed(runner.breaker._clock())
        worker.reporter.refresh()
        assert _value(state, WORKERS) == 3
        assert _value(state, WORKERS_LIVE) == 1
        assert _value(state, WORKERS_READY) == 1
        assert _value(state, HTTP_IN_FLIGHT) == 7
        assert _value(state, QUEUE_DEPTH) == 11
        assert _value(state, QUEUE_CAPACITY) == 50
        assert _value(state, BREAKER_STATE) == 2
        assert _value(state, BREAKER_OPENED) == 1

    worker.load(lambda: (runner, None))
    _live(worker, meanwhile=look)
    assert _value(state, WORKERS_READY) == 0  # as of its last report


def test_a_worker_without_a_model_reports_that_it_is_there(
    worker: Worker, state: ServiceState
) -> None:
    _live(worker)
    assert _value(state, WORKERS_LIVE) == 1
    assert _value(state, WORKERS_READY) == 0
