"""Accepted is answered: a queue under ten times the load, on a clock that is not the machine's."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from churn_serving.errors import ChurnServingError, ScoringError
from churn_serving.inference import batching
from churn_serving.inference.batching import BatchingRunner
from churn_serving.inference.resilience import Overrun
from churn_serving.telemetry.metrics import Metrics
from tests.doubles import circuit_breaker

if TYPE_CHECKING:
    from collections.abc import Callable

    from churn_serving.features.columns import FloatArray

BATCH = 8
BATCH_SECONDS = 0.05
FACTOR = 10
ACCEPTED = 1_500
ROW = (0.0,)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while it has nothing to do, and then at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        select = self._selector.select  # type: ignore[attr-defined] # the standard library's own

        def skip(timeout: float | None = None) -> Any:
            self.now += timeout or 0.0
            return select(0)

        self._selector.select = skip  # type: ignore[attr-defined] # likewise

    def time(self) -> float:
        return self.now


def _steady(_: int, __: random.Random) -> float:
    return 1.0


def _jitters(_: int, source: random.Random) -> float:
    return source.uniform(0.7, 1.3)


def _steps_up(call: int, _: random.Random) -> float:
    return 1.5 if call % 400 >= 200 else 1.0


def _steps_up_and_jitters(call: int, source: random.Random) -> float:
    return _steps_up(call, source) * _jitters(call, source)


def _wanders(call: int, source: random.Random) -> float:
    return 1.0 + 0.25 * (call // 50 % 2) * source.random()


@pytest.mark.parametrize("deadline", [0.5, 2.0])
@pytest.mark.parametrize(
    "slowness", [_steady, _jitters, _steps_up, _steps_up_and_jitters, _wanders]
)
def test_whoever_is_accepted_is_answered_in_time(
    monkeypatch: pytest.MonkeyPatch,
    slowness: Callable[[int, random.Random], float],
    deadline: float,
) -> None:
    loop = VirtualLoop()
    monkeypatch.setattr(batching, "perf_counter", loop.time)
    source = random.Random(4711)  # noqa: S311 - nobody's secret
    calls = 0

    async def score(X: FloatArray) -> FloatArray:
        nonlocal calls
        calls += 1
        await asyncio.sleep(BATCH_SECONDS * slowness(calls, source))
        return np.full(len(X), 0.5)

    runner = BatchingRunner(
        score,
        max_batch_size=BATCH,
        queue_size=100_000,
        timeout=deadline,
        breaker=circuit_breaker(),
        metrics=Metrics(model_version="test"),
        batch_seconds=BATCH_SECONDS,
    )
    monkeypatch.setattr(batching, "feature_matrix", lambda rows: np.zeros((len(rows), 1)))
    outcomes: Counter[str] = Counter()

    async def ask() -> None:
        try:
            await runner.score_row(ROW)
        except ChurnServingError as error:
            outcomes[type(error).__name__] += 1
        else:
            outcomes["answered"] += 1

    async def load() -> None:
        asking: set[asyncio.Task[None]] = set()
        while outcomes["answered"] < ACCEPTED:
            task = asyncio.create_task(ask())
            asking.add(task)
            task.add_done_callback(asking.discard)
            await asyncio.sleep(BATCH_SECONDS / BATCH / FACTOR)
        await asyncio.gather(*asking)

    try:
        loop.run_until_complete(load())
    finally:
        loop.close()
    assert outcomes.keys() == {"answered", "DeadlineUnreachableError"}
    # And the model was never without work: no batch was smaller than it may be.
    assert outcomes["answered"] / calls > 0.95 * BATCH


def test_a_bad_row_in_a_batch_makes_nobody_else_look_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its neighbours are scored again, one by one: that is no measure of the model's speed."""
    loop = VirtualLoop()
    monkeypatch.setattr(batching, "perf_counter", loop.time)
    monkeypatch.setattr(batching, "feature_matrix", np.array)
    bad = -1.0

    async def score(X: FloatArray) -> FloatArray:
        await asyncio.sleep(BATCH_SECONDS)
        if bad in X:
            raise ValueError("a row that the model cannot take")
        return np.full(len(X), 0.5)

    runner = BatchingRunner(
        score,
        max_batch_size=100,
        queue_size=1000,
        timeout=60.0,
        breaker=circuit_breaker(),
        metrics=Metrics(model_version="test"),
        batch_seconds=BATCH_SECONDS,
    )

    async def load() -> list[Any]:
        rows = [ROW] * 40 + [(bad,)]
        outcomes = await asyncio.gather(*map(runner.score_row, rows), return_exceptions=True)
        await asyncio.sleep(1)  # it is asked again whether the row is at fault
        return outcomes

    try:
        outcomes = loop.run_until_complete(load())
    finally:
        loop.close()
    assert [type(outcome) for outcome in outcomes] == [float] * 40 + [ScoringError]
    assert runner._overrun.factor == Overrun.LEAST
