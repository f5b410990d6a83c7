"""What computes impacts, whatever the kind of model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row

__all__ = ["Impacts"]


class Impacts(Protocol):
    """The impact of each field on the estimate, in log-odds; with the baseline, they add up to it.

    Attributes:
        baseline: The mean log-odds of the background.
        exact: They are those of the whole background, and of the model's own log-odds.
        slow: A row takes milliseconds: too long for an event loop.
    """

    baseline: float
    exact: bool
    slow: bool

    def row(self, row: Row) -> Sequence[float]:
        """Return the impact of each of ``FEATURE_NAMES`` for one customer."""
        ...

    def matrix(self, X: FloatArray) -> FloatArray:
        """Return the impacts of customers, shape ``(n, fields)``."""
        ...
