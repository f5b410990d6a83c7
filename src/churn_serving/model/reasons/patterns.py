"""Impacts of a sum over trees, from tables that were made at training.

A small tree knows of a customer only which of its tests fail, and a leaf only which of the fields
on its path lead away from it. So it can be tabulated how much each field moves its part of the sum,
for each such pattern, and a customer's impacts are a sum of what the tables say. Whether the trees
are tabulated or their leaves, ``churn_serving.model.reasons.units`` says; here both are units.

A pattern is a byte: a bit for each test of a tree, or for each field on the path of a leaf, which
is set if the customer fails it.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row
    from churn_serving.model.trees import SetColumns

__all__ = ["Column", "PatternImpacts", "Patterns", "starts_of"]

_LANES: Final = 16_384
"""Customers times units that are looked up at a time: they stay in the processor's caches."""
_MANY: Final = 512
"""For so many customers a look-up a unit is quicker than one for all units."""
_AT_ONCE: Final = 2048


class Column(NamedTuple):
    """What the trees ask of one column.

    Attributes:
        column: Which.
        thresholds: The different thresholds on it, ascending.
        cuts: The same, as an array.
        fails: Row ``k``: the bits that are set in each unit's pattern for a value above ``k``
            thresholds; behind them, those for a missing value.
        integers: The same, each row but the last as one integer.
    """

    column: int
    thresholds: list[float]
    cuts: FloatArray
    fails: NDArray[np.uint8]
    integers: list[int]

    @classmethod
    def of(cls, column: int, cuts: FloatArray, fails: NDArray[np.uint8]) -> Column:
        """Return it with thresholds and bits in both forms: as arrays, and without numpy."""
        integers = [int.from_bytes(row.tobytes(), sys.byteorder) for row in fails[:-1]]
        return cls(column, cuts.tolist(), cuts, fails, integers)


@dataclass(frozen=True, slots=True)
class Patterns:
    """The patterns of customers, one for each unit.

    Attributes:
        columns: What decides the bits.
        sets: The set columns behind those of the row.
        players: The field of each bit: those of the first unit, of the second, and so on.
        bits: How many each unit has.
        values: What a unit adds to the sum for each of its patterns: those of the first unit, and
            so on; shape ``(start[-1],)``.
    """

    columns: tuple[Column, ...]
    sets: SetColumns | None
    players: NDArray[np.intp]
    bits: NDArray[np.intp]
    values: FloatArray

    @property
    def start(self) -> NDArray[np.intp]:
        """Where the patterns of each unit begin, and the end; shape ``(units + 1,)``."""
        return starts_of(self.bits)

    def row(self, row: Row) -> bytes:
        """Return the patterns of one customer, whose numbers are all there.

        All together they are one long integer: numpy is cold between requests.
        """
        if self.sets is not None:
            row = self.sets.row(row)
        fails = 0
        for column, thresholds, _, _, integers in self.columns:
            fails |= integers[bisect_left(thresholds, row[column])]
        return fails.to_bytes(len(self.bits), sys.byteorder)

    def matrix(self, X: FloatArray) -> NDArray[np.uint8]:
        """Return the patterns of customers, shape ``(n, units)``."""
        if self.sets is not None:
            X = self.sets.matrix(X)
        patterns = np.zeros((len(X), len(self.bits)), np.uint8)
        for column, _, cuts, fails, _ in self.columns:
            x = X[:, column]
            number = cuts.searchsorted(x)
            number[np.isnan(x)] = len(cuts) + 1
            patterns |= fails[number]
        return patterns


def starts_of(bits: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return where the patterns of each unit begin, and the end."""
    return np.cumsum([0, *(1 << bits)])


class PatternImpacts:
    """A sum over the units of what the table says of the customer's patterns.

    Args:
        patterns: Of the units.
        table: How much each field moves a unit's part of the sum for each pattern, in log-odds;
            shape ``(patterns, fields)``.
        baseline: The mean log-odds of the background.
    """

    exact = True
    slow = False

    def __init__(self, patterns: Patterns, table: FloatArray, baseline: float) -> None:
        self.baseline = baseline
        self._patterns = patterns
        self._table = table
        self._start = patterns.start[:-1]

    def row(self, row: Row) -> list[float]:
        """Return the impact of each field: one gather and one sum."""
        pattern = np.frombuffer(self._patterns.row(row), np.uint8)
        impacts: list[float] = self._table.take(pattern + self._start, axis=0).sum(axis=0).tolist()
        return impacts

    def matrix(self, X: FloatArray) -> FloatArray:
        """Return the impacts, shape ``(n, fields)``."""
        impacts = np.zeros((len(X), self._table.shape[1]))
        many = len(X) >= _MANY
        rows = _AT_ONCE if many else max(1, _LANES // len(self._start))
        for first in range(0, len(X), rows):
            part = slice(first, first + rows)
            patterns = self._patterns.matrix(X[part])
            if many:
                self._add(patterns, impacts[part])
            else:
                impacts[part] = self._table.take(patterns + self._start, axis=0).sum(axis=1)
        return impacts

    def _add(self, patterns: NDArray[np.uint8], impacts: FloatArray) -> None:
        """Add what the table says of these patterns, unit by unit: all of it stays in caches."""
        table, found = self._table, np.empty_like(impacts)
        for start, places in zip(self._start.tolist(), patterns.T.copy(), strict=True):
            # A place that is clipped is none of this unit's: there is none.
            table[start:].take(places, axis=0, out=found, mode="clip")
            impacts += found
