"""Impacts of any model by the definition: what it says of every coalition of fields.

All 2^8 coalitions of a customer's fields are scored with a few customers of the background in the
other ones. That takes thousands of rows for one customer, so it is no work for an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from churn_serving.features.columns import FEATURE_NAMES
from churn_serving.model.reasons.players import PLAYER_OF_COLUMN, shapley_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row
    from churn_serving.model.scoring import Scorer

__all__ = ["TINY", "ClippedScore", "CoalitionImpacts", "clipped_log_odds"]

TINY: Final = 1e-6
"""A probability nearer to 0 or 1 is taken for this: the log-odds of exactly 0 are infinite."""

_ROWS: Final = 65_536
"""So many are scored at a time."""


def clipped_log_odds(probabilities: FloatArray) -> FloatArray:
    """Return ``log(p / (1 - p))`` with ``p`` clipped to ``TINY`` and ``1 - TINY``."""
    p = np.clip(probabilities, TINY, 1 - TINY)
    log_odds: FloatArray = np.log(p / (1 - p))
    return log_odds


class ClippedScore:
    """The clipped log-odds of what a scorer says; a class, for a function within cannot be pickled.

    Args:
        scorer: Of the model.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def __call__(self, X: FloatArray) -> FloatArray:
        """Return the log-odds, shape ``(n,)``, of rows."""
        return clipped_log_odds(self._scorer.score(X))


class CoalitionImpacts:
    """The definition of the Shapley value, over a few customers of the background.

    Args:
        log_odds: What is explained: log-odds, shape ``(n,)``, of rows, shape ``(n, columns)``.
        background: Customers, shape ``(m, columns)``.
    """

    exact = False
    slow = True

    def __init__(
        self, log_odds: Callable[[FloatArray], FloatArray], background: FloatArray
    ) -> None:
        self._log_odds = log_odds
        self._weights = shapley_weights(len(FEATURE_NAMES))
        mixed = [_mixed(background, coalition) for coalition in range(len(self._weights))]
        sizes = [len(rows) for rows, _, _ in mixed]
        self._rows = np.concatenate([rows for rows, _, _ in mixed])
        self._share = np.concatenate([share for _, share, _ in mixed])
        self._theirs = np.repeat([theirs for _, _, theirs in mixed], sizes, axis=0)
        self._first = np.cumsum([0, *sizes[:-1]])
        # Nobody's fields are those of the customer: that is the same for all customers.
        rows, share, _ = mixed[0]
        self.baseline = float(log_odds(rows) @ share)

    def row(self, row: Row) -> list[float]:
        """Return the impact of each field."""
        impacts: list[float] = self.matrix(np.array([row]))[0].tolist()
        return impacts

    def matrix(self, X: FloatArray) -> FloatArray:
        """Return the impacts, shape ``(n, fields)``."""
        at_once = max(1, _ROWS // len(self._rows))
        parts = [self._impacts(X[first : first + at_once]) for first in range(0, len(X), at_once)]
        return np.concatenate(parts) if parts else np.empty((0, len(FEATURE_NAMES)))

    def _impacts(self, X: FloatArray) -> FloatArray:
        rows = np.where(self._theirs, X[:, None, :], self._rows)
        log_odds = self._log_odds(rows.reshape(-1, X.shape[1])).reshape(len(X), -1)
        worth = np.add.reduceat(log_odds * self._share, self._first, axis=1)
        impacts: FloatArray = worth @ self._weights
        return impacts


def _mixed(
    background: FloatArray, coalition: int
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return what a coalition leaves of the background: each different row once.

    Returns:
        The rows, with zeros where the coalition's columns are; the share of each; and which columns
        are the coalition's.
    """
    theirs = (coalition >> PLAYER_OF_COLUMN & 1).astype(np.bool_)
    rows, count = np.unique(np.where(theirs, 0.0, background), axis=0, return_counts=True)
    return rows, count / len(background), theirs
