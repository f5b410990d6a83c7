"""The reasons of estimates, computed where they hold nobody up."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from churn_serving import context
from churn_serving.errors import DeadlineExceededError, DeadlineUnreachableError
from churn_serving.features.rows import feature_matrix
from churn_serving.inference.resilience import DurationEstimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from churn_serving.features.rows import Row
    from churn_serving.inference.prediction import Case
    from churn_serving.model.reasons.section import Reasons
    from churn_serving.model.reasons.sentences import Reason

__all__ = ["Explainer", "InlineExplainer", "ThreadedExplainer", "make_explainer"]

_AT_ONCE: Final = 8
"""So many customers are explained before the next caller has a turn in the thread."""


class Explainer(Protocol):
    """Says of customers why their estimates are what they are."""

    @property
    def baseline(self) -> float:
        """From where the reasons count, in log-odds."""
        ...

    @property
    def slow(self) -> bool:
        """Whether a customer takes so long that a batch of them should not be, unless asked for."""
        ...

    async def explain(
        self, cases: Sequence[Case], rows: Sequence[Row]
    ) -> Sequence[list[Reason] | None]:
        """Return the reasons of each customer; None for those of whom none are wanted.

        Args:
            cases: The customers.
            rows: What the model sees of them.

        Raises:
            DeadlineUnreachableError: There is too much to explain before them.
            DeadlineExceededError: They were not explained in time after all.
        """
        ...


class InlineExplainer:
    """Explains on the event loop: it takes microseconds."""

    slow = False

    def __init__(self, reasons: Reasons) -> None:
        self.baseline = reasons.baseline
        self._reasons = reasons

    def explain_one(self, case: Case, row: Row) -> list[Reason] | None:
        """Return the reasons of one customer; None if none are wanted."""
        if not case.max_reasons:
            return None
        reasons = self._reasons
        return reasons.describe(case.customer.__dict__, reasons.row(row), case.max_reasons)

    async def explain(
        self, cases: Sequence[Case], rows: Sequence[Row]
    ) -> Sequence[list[Reason] | None]:
        """Return the reasons of each customer; see ``Explainer``."""
        if not any(case.max_reasons for case in cases):
            return [None] * len(cases)
        reasons = self._reasons
        return _described(reasons, cases, reasons.matrix(feature_matrix(rows)).tolist())


class ThreadedExplainer:
    """Explains in a thread of its own, a few customers at a time, as long as that is in time."""

    slow = True

    def __init__(self, reasons: Reasons, *, timeout: float) -> None:
        self.baseline = reasons.baseline
        self._reasons = reasons
        self._timeout = timeout
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explainer")
        self._waiting = 0
        self._each = DurationEstimate(0.0)

    async def explain(
        self, cases: Sequence[Case], rows: Sequence[Row]
    ) -> Sequence[list[Reason] | None]:
        """Return the reasons of each customer; see ``Explainer``."""
        wanted = [place for place, case in enumerate(cases) if case.max_reasons]
        told: list[list[Reason] | None] = [None] * len(cases)
        if not wanted:
            return told
        now = perf_counter()
        left = min(context.deadline(), now + self._timeout) - now
        late = (self._waiting + len(wanted)) * self._each.seconds - left
        # One alone is always tried: what took long may not any more.
        if late > 0 and self._waiting + len(wanted) > 1:
            raise DeadlineUnreachableError(
                "There is too much to explain to answer in time; with max_reasons 0 there is not.",
                retry_after=late,
            )
        self._waiting += len(wanted)
        try:
            async with asyncio.timeout(left):
                for first in range(0, len(wanted), _AT_ONCE):
                    part = wanted[first : first + _AT_ONCE]
                    impacts = await self._impacts([rows[place] for place in part])
                    described = _described(self._reasons, [cases[place] for place in part], impacts)
                    for place, reasons in zip(part, described, strict=True):
                        told[place] = reasons
        except TimeoutError:
            raise DeadlineExceededError("The estimate was not explained in time.") from None
        finally:
            self._waiting -= len(wanted)
        return told

    async def _impacts(self, rows: list[Row]) -> list[list[float]]:
        X = feature_matrix(rows)

        def compute() -> list[list[float]]:
            start = perf_counter()
            impacts: list[list[float]] = self._reasons.matrix(X).tolist()
            self._each.observe((perf_counter() - start) / len(X))
            return impacts

        return await asyncio.get_running_loop().run_in_executor(self._executor, compute)


def make_explainer(reasons: Reasons | None, *, timeout: float) -> Explainer | None:
    """Return what explains with a model's reasons, if it has any.

    Args:
        reasons: The model's.
        timeout: Seconds until a caller is given up that names no deadline of its own.
    """
    if reasons is None:
        return None
    return ThreadedExplainer(reasons, timeout=timeout) if reasons.slow else InlineExplainer(reasons)


def _described(
    reasons: Reasons, cases: Sequence[Case], impacts: Sequence[Sequence[float]]
) -> list[list[Reason] | None]:
    return [
        reasons.describe(case.customer.__dict__, each, case.max_reasons)
        if case.max_reasons
        else None
        for case, each in zip(cases, impacts, strict=True)
    ]
