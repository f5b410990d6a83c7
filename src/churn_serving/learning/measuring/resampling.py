"""The bootstrap over customers, for all figures at once.

A figure of a ranking needs only to know how many customers of either label have each score. So the
rows are counted once into cells, one for each score and label; a resample draws customers, counts
them into the cells, and every figure of it is a few sums over cells. Customers are drawn without
regard to their label: how many leave is a figure of the sample, too, and varies with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Labels
    from churn_serving.learning.splits import Indices

__all__ = [
    "MAX_SCORES",
    "Cells",
    "Counts",
    "Estimate",
    "cells_of",
    "interval",
    "means",
    "resamples",
]

MAX_SCORES: Final = 8192
"""More different scores than these are resampled in as many bins of neighbours of equal number."""

_BATCH_NUMBERS: Final = 1_000_000
"""How many numbers are worked on at once: as much as fits a cache."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured figure with its 95% confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Counts:
    """How many customers of either label have each score, highest score first.

    Attributes:
        left: Shape ``(samples, scores)``.
        stayed: Shape ``(samples, scores)``.
    """

    left: FloatArray
    stayed: FloatArray


@dataclass(frozen=True, slots=True)
class Cells:
    """The rows, counted by score and label.

    Attributes:
        scores: The lowest probability of each cell, in descending order; shape ``(scores,)``.
        of_row: The cell of each row: twice its score's position, and one more if it left.
    """

    scores: FloatArray
    of_row: Indices

    @property
    def counts(self) -> Counts:
        """The rows as they are: one sample."""
        return _counts(np.bincount(self.of_row, minlength=2 * len(self.scores))[None].astype(float))

    def of_weights(self, weights: FloatArray) -> FloatArray:
        """Return the sum of the rows' weights in each cell."""
        return np.bincount(self.of_row, weights, minlength=2 * len(self.scores)).astype(float)

    def mean_of(self, values: FloatArray) -> FloatArray:
        """Return the mean of the rows' values in each cell, shape ``(2 * scores,)``; 0 if empty."""
        rows = np.bincount(self.of_row, minlength=2 * len(self.scores))
        return self.of_weights(values) / np.maximum(rows, 1)


def cells_of(y: Labels, probabilities: FloatArray, max_scores: int | None = None) -> Cells:
    """Count rows by score and label.

    Args:
        y: The labels, shape ``(n,)``.
        probabilities: Their scores, shape ``(n,)``.
        max_scores: Neighbours are put into one cell if there are more scores; None: never.
    """
    scores, of_row = np.unique(probabilities, return_inverse=True)
    if max_scores is not None and len(scores) > max_scores:
        before = np.cumsum(np.bincount(of_row)) - 1
        bins = before * max_scores // len(probabilities)
        _, first, of_score = np.unique(bins, return_index=True, return_inverse=True)
        scores, of_row = scores[first], of_score[of_row]
    return Cells(scores[::-1], 2 * (len(scores) - 1 - of_row) + y)


def resamples(
    tables: Sequence[Cells], customers: Indices, *, samples: int, seed: int
) -> Iterator[tuple[Counts, ...]]:
    """Draw customers with replacement, all rows of each; yield batches of samples.

    Args:
        tables: The same rows with the scores of one or more models: all see the same draws.
        customers: The customer of each row, numbered from 0 on; shape ``(n,)``.
        samples: How many.
        seed: Decides the draws.
    """
    random = np.random.default_rng(seed)
    people = int(customers.max()) + 1
    batch = max(1, _BATCH_NUMBERS // max(2 * len(table.scores) for table in tables))
    for start in range(0, samples, batch):
        size = min(batch, samples - start)
        cells = [np.empty((size, 2 * len(table.scores))) for table in tables]
        for sample in range(size):
            drawn = np.bincount(random.integers(people, size=people), minlength=people)
            weights = drawn[customers].astype(float)
            for table, sums in zip(tables, cells, strict=True):
                sums[sample] = table.of_weights(weights)
        yield tuple(_counts(sums) for sums in cells)


def _counts(cells: FloatArray) -> Counts:
    return Counts(left=cells[:, 1::2].copy(), stayed=cells[:, ::2].copy())


def means(values: FloatArray, customers: Indices, *, samples: int, seed: int) -> FloatArray:
    """Return the mean of the rows' values in each resample, shape ``(samples,)``."""
    random = np.random.default_rng(seed)
    sums, rows = np.bincount(customers, values), np.bincount(customers)
    people = len(rows)
    result = np.empty(samples)
    for sample in range(samples):
        drawn = random.integers(people, size=people)
        result[sample] = sums[drawn].sum() / rows[drawn].sum()
    return result


def interval(value: float, samples: FloatArray) -> Estimate:
    """Return the 95% percentile interval; samples in which the figure is undefined are left out."""
    defined = samples[np.isfinite(samples)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (value, value)
    return Estimate(float(value), float(low), float(high))
