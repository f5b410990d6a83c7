from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from churn_serving.context import REQUEST
from churn_serving.errors import (
    BreakerOpenError,
    DeadlineExceededError,
    DeadlineUnreachableError,
    NotReadyError,
    QueueFullError,
    ScoringError,
)
from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.features.rows import feature_matrix
from churn_serving.inference.batching import (
    _REFERENCE,
    BatchingRunner,
    InlineRunner,
    make_runner,
)
from churn_serving.inference.resilience import CLOSED, HALF_OPEN, OPEN, CircuitBreaker
from churn_serving.model.scoring import EstimatorScorer
from churn_serving.telemetry.metrics import (
    BATCH_SIZE,
    INFERENCE_DURATION,
    QUEUE_WAIT,
    Histogram,
    Metrics,
)
from tests.doubles import circuit_breaker, sample_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row
    from churn_serving.inference.batching import Runner
    from churn_serving.model.scoring import Scorer
    from tests.package.conftest import Fitted

PATIENCE_SECONDS = 60  # for what comes at once, on a machine that is not too busy
RAISES, IS_NAN, TOO_LARGE = -1.0, -2.0, -3.0
REFERENCE = feature_matrix(_REFERENCE)


def _row(number: float) -> Row:
    return (number, *[0.0] * (len(COLUMN_NAMES) - 1))


def _answer(number: float) -> float:
    """Return what the scorers below say about the row of this number."""
    return number / 1e6


def _score(X: FloatArray) -> FloatArray:
    numbers = X[:, 0]
    if (numbers == RAISES).any():
        raise RuntimeError("the model's secret 4711")
    scored = numbers / 1e6
    scored[numbers == IS_NAN] = np.nan
    scored[numbers == TOO_LARGE] = 1.1
    return scored


class Model:
    """A model that can be held or broken, and that remembers which customers it was asked about."""

    def __init__(self, score: Callable[[FloatArray], FloatArray] = _score) -> None:
        self._score = score
        self.broken = False
        self.batches: list[list[float]] = []
        self.free = asyncio.Event()
        self.free.set()

    async def __call__(self, X: FloatArray) -> FloatArray:
        if not np.array_equal(X, REFERENCE):  # which is no customer's
            self.batches.append(X[:, 0].tolist())
        await self.free.wait()
        if self.broken:
            raise RuntimeError("whatever it is asked")
        return self._score(X)

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


def _runner(
    model: Callable[[FloatArray], Awaitable[FloatArray]],
    *,
    max_batch_size: int = 100,
    queue_size: int = 10_000,
    timeout: float = 30,
    breaker: CircuitBreaker | None = None,
    metrics: Metrics | None = None,
    batch_seconds: float = 0.0,
) -> BatchingRunner:
    return BatchingRunner(
        model,
        max_batch_size=max_batch_size,
        queue_size=queue_size,
        timeout=timeout,
        breaker=breaker or circuit_breaker(),
        metrics=metrics or Metrics(model_version="test"),
        batch_seconds=batch_seconds,
    )


def _inline(scorer: Scorer, breaker: CircuitBreaker | None = None) -> InlineRunner:
    return InlineRunner(
        scorer, breaker=breaker or circuit_breaker(), metrics=Metrics(model_version="test")
    )


def _made(
    scorer: Scorer, *, max_batch_size: int = 8, queue_size: int = 100, timeout: float = 30
) -> Runner:
    return make_runner(
        scorer,
        max_batch_size=max_batch_size,
        queue_size=queue_size,
        timeout=timeout,
        breaker=circuit_breaker(),
        metrics=Metrics(model_version="test"),
    )


async def _settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def _start(
    *calls: Coroutine[Any, Any, float] | Coroutine[Any, Any, list[float]],
) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(call) for call in calls]
    await _settle()
    return tasks


async def _within(seconds: float, call: Coroutine[Any, Any, float]) -> float:
    """Make the call of a request with so much time; to be run as a task, as requests are."""
    REQUEST.set((b"test", time.perf_counter() + seconds))
    return await call


async def _hold(model: Model, runner: BatchingRunner) -> asyncio.Task[Any]:
    """Keep the model busy with the row 0 until ``model.free`` is set."""
    model.free.clear()
    (task,) = await _start(runner.score_row(_row(0)))
    return task


async def _outcomes(tasks: Sequence[asyncio.Task[Any]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_idle_runner_scores_at_once() -> None:
    model = Model()
    model.free.clear()
    runner = _runner(model)
    task = asyncio.ensure_future(runner.score_row(_row(7)))
    for _ in range(2):  # the caller's first step, then the worker's: no timer in between
        await asyncio.sleep(0)
    assert model.batches == [[7]]
    model.free.set()
    assert await task == _answer(7)


async def test_what_waits_during_a_batch_is_the_next_batch() -> None:
    model = Model()
    runner = _runner(model)
    held = await _hold(model, runner)
    waiting = await _start(*(runner.score_row(_row(n)) for n in range(1, 41)))
    assert model.sizes == [1]
    model.free.set()
    assert await _outcomes([held, *waiting]) == [_answer(n) for n in range(41)]
    assert model.sizes == [1, 40]
    assert model.batches[1] == list(range(1, 41))  # oldest first


def test_thousands_of_concurrent_callers_each_get_their_own_answer() -> None:
    class Scorer:
        def score(self, X: FloatArray) -> FloatArray:
            time.sleep(0.002)  # in the runner's thread: the callers pile up meanwhile
            return _score(X)

        def score_row(self, row: Row) -> float:
            return _answer(row[0])

    async def caller(number: int, random: np.random.Generator) -> None:
        await asyncio.sleep(random.uniform(0, 0.05))
        if number % 5:
            assert await runner.score_row(_row(number)) == _answer(number)
        else:
            rows = [_row(number + k / 100) for k in range(1 + number % 7)]
            assert await runner.score_rows(rows) == [_answer(row[0]) for row in rows]

    async def scenario() -> None:
        random = np.random.default_rng(0)
        await asyncio.gather(*(caller(number, random) for number in range(5000)))

    runner = _made(Scorer(), max_batch_size=64, queue_size=20_000, timeout=30)
    assert isinstance(runner, BatchingRunner)
    asyncio.run(scenario())


async def test_a_batch_is_never_larger_than_the_largest_batch() -> None:
    model = Model()
    runner = _runner(model, max_batch_size=10)
    held = await _hold(model, runner)
    waiting = await _start(*(runner.score_row(_row(n)) for n in range(1, 26)))
    model.free.set()
    assert await _outcomes([held, *waiting]) == [_answer(n) for n in range(26)]
    assert model.sizes == [1, 10, 10, 5]


async def test_the_rows_of_one_caller_are_never_split() -> None:
    model = Model()
    runner = _runner(model, max_batch_size=10)
    held = await _hold(model, runner)
    rows = [[_row(10 * caller + k) for k in range(4)] for caller in range(1, 6)]
    waiting = await _start(*(runner.score_rows(each) for each in rows))
    model.free.set()
    outcomes = await _outcomes([held, *waiting])
    assert outcomes[1:] == [[_answer(row[0]) for row in each] for each in rows]
    assert model.sizes == [1, 8, 8, 4]


async def test_a_caller_with_more_rows_than_the_largest_batch_has_a_batch_of_its_own() -> None:
    model = Model()
    runner = _runner(model, max_batch_size=10)
    held = await _hold(model, runner)
    waiting = await _start(
        runner.score_row(_row(1)),
        runner.score_rows([_row(n) for n in range(100, 115)]),
        runner.score_row(_row(2)),
    )
    model.free.set()
    outcomes = await _outcomes([held, *waiting])
    assert outcomes[2] == [_answer(n) for n in range(100, 115)]
    assert model.sizes == [1, 1, 15, 1]


async def test_a_full_queue_refuses_the_newest_and_answers_everyone_it_accepted() -> None:
    model = Model()
    runner = _runner(model, queue_size=3)
    held = await _hold(model, runner)
    accepted = await _start(*(runner.score_row(_row(n)) for n in (1, 2, 3)))
    for _ in range(3):
        with pytest.raises(QueueFullError, match="Too many customers are waiting"):
            await runner.score_row(_row(4))
    model.free.set()
    assert await _outcomes([held, *accepted]) == [_answer(n) for n in range(4)]
    assert 4 not in {number for batch in model.batches for number in batch}
    assert await runner.score_row(_row(5)) == _answer(5)  # there is room again


async def test_the_queue_counts_rows_and_not_callers() -> None:
    model = Model()
    runner = _runner(model, queue_size=10)
    held = await _hold(model, runner)
    accepted = await _start(runner.score_rows([_row(n) for n in range(1, 9)]))
    with pytest.raises(QueueFullError):
        await runner.score_rows([_row(20), _row(21), _row(22)])
    accepted += await _start(runner.score_rows([_row(9), _row(10)]))
    model.free.set()
    outcomes = await _outcomes([held, *accepted])
    assert [len(outcome) for outcome in outcomes[1:]] == [8, 2]


async def test_a_row_that_makes_the_model_raise_fails_alone() -> None:
    model = Model()
    runner = _runner(model)
    held = await _hold(model, runner)
    waiting = await _start(*(runner.score_row(_row(n)) for n in (1, RAISES, 3, RAISES, 5)))
    model.free.set()
    outcomes = await _outcomes([held, *waiting])
    assert [o for o in outcomes if isinstance(o, float)] == [_answer(n) for n in (0, 1, 3, 5)]
    assert [type(outcomes[k]) for k in (2, 4)] == [ScoringError, ScoringError]
    # Each by itself, and those that failed twice more.
    assert model.batches[2:] == [[1], *[[RAISES]] * 3, [3], *[[RAISES]] * 3, [5]]
    assert await runner.score_row(_row(9)) == _answer(9)


async def test_a_failure_keeps_its_cause_for_the_log_and_its_text_from_the_caller() -> None:
    with pytest.raises(ScoringError) as failed:
        await _runner(Model()).score_row(_row(RAISES))
    assert "4711" not in str(failed.value)
    assert isinstance(failed.value.__cause__, RuntimeError)
    assert "4711" in str(failed.value.__cause__)


def test_an_error_of_this_package_reaches_the_caller_as_it_is() -> None:
    def not_ready(_: FloatArray) -> FloatArray:
        raise NotReadyError("The runner starts.")

    async def scenario() -> None:
        with pytest.raises(NotReadyError, match=r"The runner starts\."):
            await _runner(Model(not_ready)).score_row(_row(1))

    asyncio.run(scenario())


@pytest.mark.parametrize("bad", [IS_NAN, TOO_LARGE, -5e5])
async def test_an_answer_that_is_no_probability_fails_only_its_caller(bad: float) -> None:
    model = Model()
    runner = _runner(model)
    held = await _hold(model, runner)
    waiting = await _start(
        runner.score_row(_row(1)),
        runner.score_rows([_row(2), _row(bad), _row(3)]),
        runner.score_rows([_row(4), _row(5)]),
    )
    model.free.set()
    outcomes = await _outcomes([held, *waiting])
    assert outcomes[1] == _answer(1)
    assert isinstance(outcomes[2], ScoringError)
    assert outcomes[3] == [_answer(4), _answer(5)]
    assert model.batches[2:] == [[2, bad, 3]] * 2  # nobody else is scored again


def _one_too_few(X: FloatArray) -> FloatArray:
    return _score(X)[:-1]


def _one_too_many(X: FloatArray) -> FloatArray:
    return np.append(_score(X), 0.5)


def _nothing(_: FloatArray) -> FloatArray:
    return np.array([])


def _pairs(X: FloatArray) -> FloatArray:
    return np.stack([1 - _score(X), _score(X)], axis=1)


def _none(_: FloatArray) -> Any:
    return None


@pytest.mark.parametrize("score", [_one_too_few, _one_too_many, _nothing, _pairs, _none])
@pytest.mark.parametrize("callers", [1, 3])
async def test_a_wrong_number_of_answers_is_a_scoring_error_for_everyone(
    score: Callable[[FloatArray], FloatArray], callers: int
) -> None:
    model = Model(score)
    runner = _runner(model)
    held = await _hold(model, runner)
    waiting = await _start(*(runner.score_rows([_row(1), _row(2)]) for _ in range(callers)))
    model.free.set()
    outcomes = await _outcomes([held, *waiting])
    assert [type(outcome) for outcome in outcomes] == [ScoringError] * (callers + 1)


def test_answers_that_do_not_fit_a_batch_are_asked_for_again_one_by_one() -> None:
    def forgetful(X: FloatArray) -> FloatArray:
        return _score(X)[:1]

    async def scenario() -> None:
        model = Model(forgetful)
        runner = _runner(model)
        held = await _hold(model, runner)
        waiting = await _start(*(runner.score_row(_row(n)) for n in (1, 2, 3)))
        model.free.set()
        assert await _outcomes([held, *waiting]) == [_answer(n) for n in range(4)]

    asyncio.run(scenario())


async def test_the_rows_of_a_cancelled_caller_are_not_scored() -> None:
    model = Model()
    runner = _runner(model)
    held = await _hold(model, runner)
    waiting = await _start(*(runner.score_row(_row(n)) for n in (1, 2, 3)))
    waiting[1].cancel()
    await _settle()
    model.free.set()
    outcomes = await _outcomes([held, *waiting])
    assert isinstance(outcomes[2], asyncio.CancelledError)
    assert [outcomes[k] for k in (0, 1, 3)] == [_answer(n) for n in (0, 1, 3)]
    assert model.batches == [[0], [1, 3]]


async def test_a_cancelled_caller_leaves_its_place_in_the_queue_to_others() -> None:
    model = Model()
    runner = _runner(model, queue_size=2)
    held = await _hold(model, runner)
    gone = await _start(*(runner.score_row(_row(n)) for n in (1, 2)))
    for task in gone:
        task.cancel()
    await _settle()
    accepted = await _start(runner.score_row(_row(3)), runner.score_row(_row(4)))
    with pytest.raises(QueueFullError):
        await runner.score_row(_row(5))
    model.free.set()
    assert await _outcomes([held, *accepted]) == [_answer(n) for n in (0, 3, 4)]
    assert model.batches == [[0], [3, 4]]


async def test_a_caller_cancelled_in_flight_harms_nobody() -> None:
    model = Model()
    runner = _runner(model)
    held = await _hold(model, runner)
    (waiting,) = await _start(runner.score_row(_row(1)))
    held.cancel()
    await _settle()
    model.free.set()
    assert await waiting == _answer(1)
    assert model.sizes == [1, 1]


async def test_a_hanging_model_is_given_up_then_left_alone_then_found_again() -> None:
    model = Model()
    runner = _runner(model, timeout=0.5)
    start = time.perf_counter()
    held = await _hold(model, runner)
    waiting = await _start(runner.score_row(_row(1)), runner.score_rows([_row(2), _row(3)]))
    outcomes = await _outcomes([held, *waiting])
    assert time.perf_counter() - start >= 0.5
    assert [type(outcome) for outcome in outcomes] == [DeadlineExceededError] * 3
    for number in (4, 5):
        with pytest.raises(DeadlineUnreachableError):
            await runner.score_row(_row(number))
    model.free.set()
    await _settle()
    assert await runner.score_row(_row(6)) == _answer(6)
    assert model.batches == [[0], [6]]


async def test_callers_past_their_deadline_leave_their_places_to_others() -> None:
    model = Model()
    runner = _runner(model, queue_size=2)
    held = await _hold(model, runner)
    late = await _start(*(_within(0.02, runner.score_row(_row(n))) for n in (1, 2)))
    assert [type(each) for each in await _outcomes(late)] == [DeadlineExceededError] * 2
    accepted = await _start(runner.score_row(_row(3)), runner.score_row(_row(4)))
    model.free.set()
    assert await _outcomes([held, *accepted]) == [_answer(n) for n in (0, 3, 4)]


async def test_an_answered_caller_leaves_no_timer_behind() -> None:
    loop: Any = asyncio.get_running_loop()
    runner = _runner(Model(), timeout=30)
    assert await runner.score_row(_row(1)) == _answer(1)
    assert all(timer.cancelled() for timer in loop._scheduled)


def test_any_mixture_of_good_bad_and_impatient_callers_gets_the_right_answers() -> None:
    async def caller(runner: BatchingRunner, number: int, random: np.random.Generator) -> str:
        await asyncio.sleep(random.uniform(0, 0.05))
        kind = str(random.choice(["good", "raises", "nan", "cancelled"], p=[0.8, 0.05, 0.05, 0.1]))
        bad = {"raises": [_row(RAISES)], "nan": [_row(IS_NAN)]}.get(kind, [])
        rows = [_row(number), *bad, _row(number + 0.5)]
        if kind == "cancelled":
            try:
                await asyncio.wait_for(runner.score_rows(rows), timeout=0.0005)
            except TimeoutError:
                return "cancelled"
            return "good"
        if bad:
            with pytest.raises(ScoringError):
                await runner.score_rows(rows)
        else:
            assert await runner.score_rows(rows) == [_answer(number), _answer(number + 0.5)]
        return str(kind)

    async def scenario() -> Counter[str]:
        async def score(X: FloatArray) -> FloatArray:
            await asyncio.sleep(0.001)
            return _score(X)

        random = np.random.default_rng(1)
        runner = _runner(score, max_batch_size=32, queue_size=5000, timeout=30)
        kinds = await asyncio.gather(*(caller(runner, n, random) for n in range(600)))
        await _settle()
        assert runner.queue_depth == 0
        assert not runner._queue
        return Counter(kinds)

    kinds = asyncio.run(scenario())
    assert set(kinds) == {"good", "raises", "nan", "cancelled"}


class SlowScorer:
    """Takes longer for a batch than the event loop may be kept."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.threads: set[str] = set()
        self.busy = False

    def score(self, X: FloatArray) -> FloatArray:
        self.threads.add(threading.current_thread().name)
        self.busy = True
        time.sleep(self._seconds)
        self.busy = False
        return np.full(len(X), 0.5)

    def score_row(self, _: Row) -> float:
        time.sleep(self._seconds)
        return 0.5


class HeldScorer(SlowScorer):
    """Returns once it may; or never, if the event loop that is to say so stands still."""

    def __init__(self) -> None:
        super().__init__(0.002)
        self.free = threading.Event()
        self.free.set()

    def score(self, X: FloatArray) -> FloatArray:
        scores = super().score(X)
        self.busy = True
        assert self.free.wait(PATIENCE_SECONDS)
        self.busy = False
        return scores


def test_a_fast_scorer_runs_inline(logistic: Fitted) -> None:
    runner = _made(logistic.scorer, max_batch_size=256, queue_size=100, timeout=5)
    assert isinstance(runner, InlineRunner)
    assert runner.inline
    row: Row = tuple(logistic.X[0].tolist())
    expected = logistic.predict_proba(logistic.X[:2])
    assert asyncio.run(runner.score_row(row)) == pytest.approx(expected[0], abs=1e-12)
    rows = [tuple(each) for each in logistic.X[:2].tolist()]
    assert asyncio.run(runner.score_rows(rows)) == pytest.approx(expected.tolist(), abs=1e-12)


def test_a_slow_scorer_runs_in_one_thread_of_its_own(boosting: Fitted) -> None:
    scorer = EstimatorScorer(boosting.pipeline.predict_proba)
    runner = _made(scorer, max_batch_size=256, queue_size=100, timeout=30)
    assert isinstance(runner, BatchingRunner)
    assert not runner.inline
    rows = [tuple(each) for each in boosting.X[:3].tolist()]
    expected = boosting.predict_proba(boosting.X[:3]).tolist()
    assert asyncio.run(runner.score_rows(rows)) == pytest.approx(expected, abs=1e-12)

    slow = SlowScorer(0.002)
    runner = _made(slow, max_batch_size=8, queue_size=100, timeout=30)
    slow.threads.clear()

    async def scenario() -> None:
        await asyncio.gather(*(runner.score_row(_row(n)) for n in range(50)))

    asyncio.run(scenario())
    assert len(slow.threads) == 1
    assert threading.current_thread().name not in slow.threads


def test_the_choice_is_logged_with_the_measured_time(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "churn_serving"):
        _made(SlowScorer(0.001), max_batch_size=16, queue_size=100, timeout=5)
    (record,) = caplog.records
    assert record.message.startswith("SlowScorer scores a batch of 16 in ")
    assert record.message.endswith("in a thread")


def test_the_event_loop_turns_while_a_slow_model_scores() -> None:
    async def scenario() -> None:
        call = asyncio.ensure_future(runner.score_row(_row(1)))
        while not scorer.busy:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)
        assert not call.done()
        scorer.free.set()
        assert await call == 0.5

    scorer = HeldScorer()
    runner = _made(scorer, timeout=PATIENCE_SECONDS)
    scorer.free.clear()
    asyncio.run(scenario())


def test_a_slow_model_does_not_hold_up_a_deadline() -> None:
    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await runner.score_row(_row(1))
        assert not scorer.free.is_set()
        scorer.free.set()

    scorer = HeldScorer()
    runner = _made(scorer, timeout=0.05)
    scorer.free.clear()
    asyncio.run(scenario())


class FaultyScorer:
    """Treats rows as ``_score`` does, in both ways."""

    def score(self, X: FloatArray) -> FloatArray:
        return _score(X)

    def score_row(self, row: Row) -> float:
        return float(_score(np.array([row]))[0])


@pytest.mark.parametrize("bad", [RAISES, IS_NAN, TOO_LARGE])
def test_an_inline_failure_is_a_scoring_error_without_the_models_text(bad: float) -> None:
    runner = _inline(FaultyScorer())
    with pytest.raises(ScoringError) as one:
        asyncio.run(runner.score_row(_row(bad)))
    with pytest.raises(ScoringError) as many:
        asyncio.run(runner.score_rows([_row(1), _row(bad)]))
    assert "4711" not in f"{one.value} {many.value}"
    assert asyncio.run(runner.score_row(_row(2))) == _answer(2)


@pytest.mark.parametrize("score", [_one_too_few, _one_too_many, _pairs])
def test_an_inline_wrong_number_of_answers_is_a_scoring_error(
    score: Callable[[FloatArray], FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer: Any = FaultyScorer()
    monkeypatch.setattr(scorer, "score", score)
    with pytest.raises(ScoringError, match="not a probability"):
        asyncio.run(_inline(scorer).score_rows([_row(1), _row(2)]))


def _calls(metrics: Metrics) -> tuple[int, float, float]:
    """Return how often the model was called, with how many rows, and for how many seconds."""
    sizes, times = sample_of(metrics, BATCH_SIZE), sample_of(metrics, INFERENCE_DURATION)
    assert isinstance(sizes, Histogram)
    assert isinstance(times, Histogram)
    assert sum(sizes.counts) == sum(times.counts)
    return sum(sizes.counts), sizes.total, times.total


def test_each_call_of_the_model_is_counted_with_its_rows_and_its_time() -> None:
    async def scenario() -> None:
        async def score(X: FloatArray) -> FloatArray:
            await asyncio.sleep(0.01)
            return _score(X)

        runner = _runner(score, metrics=metrics)
        (held,) = await _start(runner.score_row(_row(0)))
        waiting = await _start(runner.score_row(_row(1)), runner.score_rows([_row(2), _row(3)]))
        await _outcomes([held, *waiting])

    metrics = Metrics(model_version="test")
    start = time.perf_counter()
    asyncio.run(scenario())
    calls, rows, seconds = _calls(metrics)
    assert (calls, rows) == (2, 4)
    assert 0.018 < seconds < time.perf_counter() - start


def test_each_inline_call_of_the_model_is_counted_with_its_rows_and_its_time() -> None:
    metrics = Metrics(model_version="test")
    runner = InlineRunner(FaultyScorer(), breaker=circuit_breaker(), metrics=metrics)
    start = time.perf_counter()
    asyncio.run(runner.score_row(_row(1)))
    asyncio.run(runner.score_rows([_row(1), _row(2)]))
    calls, rows, seconds = _calls(metrics)
    assert (calls, rows) == (2, 3)
    assert 0 < seconds < time.perf_counter() - start


def test_the_time_in_the_queue_is_counted_for_each_caller_that_was_scored() -> None:
    async def scenario() -> None:
        model = Model()
        runner = _runner(model, metrics=metrics)
        held = await _hold(model, runner)
        waiting = await _start(*(runner.score_row(_row(n)) for n in (1, 2, 3)))
        waiting[0].cancel()
        await asyncio.sleep(0.02)
        model.free.set()
        await _outcomes([held, *waiting])

    metrics = Metrics(model_version="test")
    start = time.perf_counter()
    asyncio.run(scenario())
    waits = sample_of(metrics, QUEUE_WAIT)
    assert isinstance(waits, Histogram)
    assert sum(waits.counts) == 3
    assert 0.04 <= waits.total < 3 * (time.perf_counter() - start)


async def test_the_depth_of_the_queue_is_the_rows_that_wait() -> None:
    model = Model()
    runner = _runner(model, queue_size=50)
    assert (runner.queue_depth, runner.queue_capacity) == (0, 50)
    held = await _hold(model, runner)
    assert runner.queue_depth == 0  # it is being scored
    waiting = await _start(runner.score_row(_row(1)), runner.score_rows([_row(2), _row(3)]))
    assert runner.queue_depth == 3
    model.free.set()
    await _outcomes([held, *waiting])
    assert runner.queue_depth == 0


async def test_work_that_would_be_too_late_is_refused_with_the_time_to_wait() -> None:
    model = Model()
    # A batch takes a second, says the estimate: the one that is held, and two of those below.
    runner = _runner(model, max_batch_size=10, batch_seconds=1.0)
    start = time.perf_counter()
    held = await _hold(model, runner)
    accepted = await _start(runner.score_rows([_row(n) for n in range(1, 11)]))
    with pytest.raises(DeadlineUnreachableError) as refused:
        await asyncio.ensure_future(_within(2.5, runner.score_row(_row(11))))
    # Three seconds of work, which may take 1.6 times as long, and two and a half to do it in.
    since = time.perf_counter() - start
    assert refused.value.retry_after == pytest.approx(2.3, abs=0.01 + 2 * since)
    assert refused.value.reason == "deadline"
    # Another, with more time, may still come, and who was accepted before is served.
    accepted += await _start(_within(PATIENCE_SECONDS, runner.score_row(_row(12))))
    model.free.set()
    outcomes = await _outcomes([held, *accepted])
    assert outcomes[0] == _answer(0)
    assert outcomes[1] == [_answer(n) for n in range(1, 11)]
    assert outcomes[2] == _answer(12)
    assert 11 not in {number for batch in model.batches for number in batch}


async def test_a_full_queue_says_how_long_its_work_will_take() -> None:
    model = Model()
    runner = _runner(model, max_batch_size=10, queue_size=20, batch_seconds=0.5)
    start = time.perf_counter()
    held = await _hold(model, runner)
    accepted = await _start(runner.score_rows([_row(n) for n in range(1, 21)]))
    with pytest.raises(QueueFullError) as refused:
        await runner.score_row(_row(21))
    since = time.perf_counter() - start
    assert refused.value.retry_after == pytest.approx(1.5, abs=0.01 + since)
    assert refused.value.reason == "queue_full"
    model.free.set()
    await _outcomes([held, *accepted])


async def test_an_idle_runner_always_tries_however_long_it_may_take() -> None:
    model = Model()
    runner = _runner(model, timeout=1, batch_seconds=100)
    assert await runner.score_row(_row(1)) == _answer(1)
    await _settle()
    assert await runner.score_row(_row(2)) == _answer(2)


async def test_a_model_that_has_become_fast_again_is_soon_trusted_again() -> None:
    model = Model()
    runner = _runner(model, timeout=5, batch_seconds=100)
    for number in range(40):
        assert await runner.score_row(_row(number)) == _answer(number)
        await _settle()
    held = await _hold(model, runner)
    (behind,) = await _start(runner.score_row(_row(1)))
    model.free.set()
    assert await _outcomes([held, behind]) == [_answer(0), _answer(1)]


async def test_a_request_whose_time_is_over_is_not_scored_at_all() -> None:
    model = Model()
    runner = _runner(model)
    with pytest.raises(DeadlineExceededError):
        await asyncio.ensure_future(_within(0, runner.score_row(_row(1))))
    assert model.batches == []


@pytest.mark.parametrize(("own", "allowed"), [(0.05, 30), (60, 0.05)])
async def test_a_request_may_have_less_time_than_the_others_but_never_more(
    own: float, allowed: float
) -> None:
    model = Model()
    runner = _runner(model, timeout=allowed)
    model.free.clear()
    start = time.perf_counter()
    (task,) = await _start(_within(own, runner.score_row(_row(1))))
    with pytest.raises(DeadlineExceededError):
        await task
    assert 0.05 <= time.perf_counter() - start < max(own, allowed)
    model.free.set()


async def test_work_that_is_too_late_in_the_queue_is_dropped_before_the_model_is_called() -> None:
    model = Model()
    runner = _runner(model)
    held = await _hold(model, runner)
    late, in_time = await _start(
        _within(0.02, runner.score_row(_row(1))), runner.score_row(_row(2))
    )
    model.free.set()
    time.sleep(0.03)  # noqa: ASYNC251 - the loop is busy, so that no timer can tell in time
    outcomes = await _outcomes([held, late, in_time])
    assert isinstance(outcomes[1], DeadlineExceededError)
    assert [outcomes[0], outcomes[2]] == [_answer(0), _answer(2)]
    assert model.batches == [[0], [2]]


def test_a_model_that_is_not_ready_fails_everybody_and_is_not_asked_again() -> None:
    ready = True

    def score(X: FloatArray) -> FloatArray:
        if not ready:
            raise NotReadyError("The runner starts.")
        return _score(X)

    async def scenario() -> None:
        nonlocal ready
        model = Model(score)
        breaker = circuit_breaker(min_calls=2, failure_rate=1.0)
        runner = _runner(model, breaker=breaker)
        held = await _hold(model, runner)
        waiting = await _start(*(runner.score_row(_row(n)) for n in (1, 2, 3)))
        ready = False
        model.free.set()
        outcomes = await _outcomes([held, *waiting])
        assert [type(outcome) for outcome in outcomes] == [NotReadyError] * 4
        assert model.sizes == [1, 3]
        assert breaker.state is OPEN  # two calls, both failed

    asyncio.run(scenario())


@pytest.mark.parametrize("bad", [RAISES, IS_NAN, TOO_LARGE])
async def test_a_row_that_no_model_could_score_says_nothing_of_the_model(bad: float) -> None:
    breaker = circuit_breaker(min_calls=1, failure_rate=0.01)
    runner = _runner(Model(), breaker=breaker)
    inline = _inline(FaultyScorer(), breaker)
    for _ in range(20):
        for call in (
            runner.score_row(_row(bad)),
            runner.score_rows([_row(1), _row(bad)]),
            inline.score_row(_row(bad)),
            inline.score_rows([_row(1), _row(bad)]),
        ):
            with pytest.raises(ScoringError):
                await call
    assert breaker.state is CLOSED
    assert await runner.score_row(_row(1)) == await inline.score_row(_row(1)) == _answer(1)


async def test_a_model_that_fails_now_and_then_is_at_fault() -> None:
    """It fails on a row, answers the reference, and the row when it is asked again."""

    def score(_: FloatArray) -> FloatArray:
        calls.append(1)
        if len(calls) % 3 == 1:
            raise RuntimeError
        return np.array([0.5])

    calls: list[int] = []
    breaker = circuit_breaker(min_calls=2, failure_rate=1.0)
    runner = _runner(Model(score), breaker=breaker)
    for _ in range(2):
        with pytest.raises(ScoringError):
            await runner.score_row(_row(1))
    assert breaker.state is OPEN


async def test_a_breaker_that_opens_refuses_what_is_queued_as_well() -> None:
    model = Model()
    runner = _runner(model, max_batch_size=4, breaker=circuit_breaker(min_calls=2))
    held = await _hold(model, runner)
    # The first batch opens it with its second caller; two more of it, and a batch, are waiting.
    waiting = await _start(*(runner.score_row(_row(n)) for n in range(1, 9)))
    model.free.set()
    model.broken = True
    first, *others = await _outcomes([held, *waiting])
    assert isinstance(first, ScoringError)
    assert [type(outcome) for outcome in others] == [ScoringError] * 1 + [BreakerOpenError] * 7
    assert runner.queue_depth == 0
    # The one that was held, the batch, and one caller of it by itself.
    assert model.sizes == [1, 4, 1]


async def test_a_call_that_takes_twice_the_timeout_is_one_that_hangs() -> None:
    model = Model()
    runner = _runner(model, timeout=0.1)
    seen = [runner.hangs]
    start = time.perf_counter()
    held = await _hold(model, runner)
    while not runner.hangs:  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)
    assert time.perf_counter() - start > 0.2
    model.free.set()
    await _outcomes([held])
    await _settle()
    seen.append(runner.hangs)
    assert seen == [False, False]


async def test_an_open_breaker_refuses_without_asking_the_model() -> None:
    model = Model()
    runner = _runner(model, breaker=circuit_breaker(min_calls=1, open_seconds=30.0))
    model.broken = True
    with pytest.raises(ScoringError):
        await runner.score_row(_row(0))
    with pytest.raises(BreakerOpenError) as refused:
        await runner.score_row(_row(1))
    assert 0 < refused.value.retry_after <= 30
    assert model.sizes == [1]
    assert runner.queue_depth == 0


async def test_a_model_that_works_again_is_tried_one_call_at_a_time_and_then_trusted() -> None:
    model = Model()
    breaker = circuit_breaker(min_calls=1, open_seconds=60.0)
    runner = _runner(model, breaker=breaker)
    model.broken = True
    with pytest.raises(ScoringError):
        await runner.score_row(_row(0))
    model.broken = False
    breaker._next_probe = 0.0  # its pause is over
    model.free.clear()
    probe, second = await _start(runner.score_row(_row(1)), runner.score_row(_row(2)))
    assert second.done()
    assert isinstance(second.exception(), BreakerOpenError)
    model.free.set()
    assert await probe == _answer(1)
    assert breaker.state is HALF_OPEN
    for number in range(1, CircuitBreaker.PROBES):
        assert await runner.score_row(_row(number)) == _answer(number)
    assert breaker.state is CLOSED


async def test_answers_that_come_too_late_for_everybody_open_the_breaker() -> None:
    model = Model()
    breaker = circuit_breaker(min_calls=1)
    runner = _runner(model, timeout=0.02, breaker=breaker)
    held = await _hold(model, runner)
    assert isinstance((await _outcomes([held]))[0], DeadlineExceededError)
    assert breaker.state is CLOSED  # the call has not ended yet
    model.free.set()
    await _settle()
    assert breaker.state is OPEN


@pytest.mark.parametrize("many", [False, True], ids=["one row", "rows"])
async def test_inline_failures_open_the_breaker_which_then_keeps_the_model_alone(
    *, many: bool
) -> None:
    class Broken(FaultyScorer):
        broken = True
        asked = 0

        def score(self, X: FloatArray) -> FloatArray:
            self.asked += 1
            return np.full(len(X), np.nan) if self.broken else super().score(X)

        def score_row(self, row: Row) -> float:
            self.asked += 1
            return float("nan") if self.broken else super().score_row(row)

    async def call(number: float) -> object:
        return await (
            runner.score_rows([_row(number)] * 2) if many else runner.score_row(_row(number))
        )

    scorer = Broken()
    runner = _inline(scorer, circuit_breaker(min_calls=4, open_seconds=60.0))
    for _ in range(4):
        with pytest.raises(ScoringError):
            await call(1)
    asked = scorer.asked
    for _ in range(10):
        with pytest.raises(BreakerOpenError):
            await call(1)
    assert scorer.asked == asked
    scorer.broken = False
    runner.breaker._next_probe = 0.0  # its pause is over
    for _ in range(CircuitBreaker.PROBES):
        await call(1)
    assert runner.breaker.state is CLOSED
