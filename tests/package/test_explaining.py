"""Reasons that take long are computed beside the event loop, and only for who can wait."""

from __future__ import annotations

import asyncio
from time import perf_counter, sleep
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from churn_serving.context import REQUEST
from churn_serving.errors import DeadlineExceededError, DeadlineUnreachableError
from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.inference.explaining import InlineExplainer, ThreadedExplainer, make_explainer
from churn_serving.schema import EXAMPLE, Customer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row

ROW = (1.0,) * len(COLUMN_NAMES)


class SlowReasons:
    """A model's reasons that take as long as they are told to."""

    baseline = -1.0
    exact = False
    slow = True

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.sizes: list[int] = []

    def row(self, _: Row) -> Sequence[float]:
        raise AssertionError("a single customer is explained in the thread, too")

    def matrix(self, X: FloatArray) -> FloatArray:
        sleep(self.seconds * len(X))
        self.sizes.append(len(X))
        return np.ones((len(X), len(FEATURE_NAMES)))

    def describe(self, values: Any, impacts: Sequence[float], limit: int) -> list[Any]:
        assert set(values) == set(EXAMPLE)
        return [f"{limit} of {sum(impacts):g}"]


def case(max_reasons: int = 3) -> Any:
    return SimpleNamespace(customer=Customer.model_validate(EXAMPLE), max_reasons=max_reasons)


@pytest.fixture
def in_a_hurry() -> Iterator[None]:
    token = REQUEST.set((b"id", perf_counter() + 0.1))
    yield
    REQUEST.reset(token)


def explainer(seconds: float = 0.0) -> tuple[ThreadedExplainer, SlowReasons]:
    reasons = SlowReasons(seconds)
    made = make_explainer(reasons, timeout=5.0)  # type: ignore[arg-type]  # a double
    assert isinstance(made, ThreadedExplainer)
    return made, reasons


def test_quick_reasons_are_computed_on_the_event_loop() -> None:
    reasons = SlowReasons()
    reasons.slow = False
    assert isinstance(make_explainer(reasons, timeout=5.0), InlineExplainer)  # type: ignore[arg-type]  # a double
    assert make_explainer(None, timeout=5.0) is None


async def test_each_gets_as_many_as_they_want_a_few_customers_at_a_time() -> None:
    made, reasons = explainer()
    cases = [case(number % 3) for number in range(30)]
    told = await made.explain(cases, [ROW] * 30)
    assert told == [[f"{n % 3} of 8"] if n % 3 else None for n in range(30)]
    assert sum(reasons.sizes) == 20
    assert max(reasons.sizes) <= 8


async def test_who_wants_none_waits_for_nobody() -> None:
    made, reasons = explainer()
    assert await made.explain([case(0)], [ROW]) == [None]
    assert reasons.sizes == []


async def test_the_event_loop_goes_on_meanwhile() -> None:
    made, _ = explainer(0.05)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    others = asyncio.create_task(turn())
    await made.explain([case()], [ROW])
    others.cancel()
    assert turns > 5


@pytest.mark.usefixtures("in_a_hurry")
async def test_who_is_not_explained_in_time_is_told_so() -> None:
    made, _ = explainer(0.3)
    with pytest.raises(DeadlineExceededError):
        await made.explain([case()], [ROW])


@pytest.mark.usefixtures("in_a_hurry")
async def test_what_cannot_be_in_time_is_refused_at_once() -> None:
    made, reasons = explainer(0.02)
    await made.explain([case()], [ROW])
    before = len(reasons.sizes)
    with pytest.raises(DeadlineUnreachableError) as refused:
        await made.explain([case()] * 100, [ROW] * 100)
    assert refused.value.retry_after > 0
    assert len(reasons.sizes) == before
    # One alone is tried, whatever was before.
    assert await made.explain([case()], [ROW])
