"""Impacts of small trees, from tables that were made at training.

A tree knows of a customer only which of its few tests fail: the pattern. So it can be tabulated how
much each field moves a tree's answer for each pattern, and a customer's impacts are a sum over the
trees. A pattern is a byte: the bit of a test is set if the customer goes to its right.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from churn_serving.model.reasons.players import PLAYER_OF_COLUMN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row
    from churn_serving.model.trees import Forest, SetColumns

__all__ = ["PatternImpacts", "Patterns"]

_MAX_TESTS: Final = 8
_MAX_DEPTH: Final = 16
_MAX_BYTES: Final = 16 * 1024**2
_ROWS: Final = 128
"""As many customers at a time leave what is looked up in the processor's caches."""


class _Column(NamedTuple):
    """What the trees ask of one column.

    Attributes:
        column: Which.
        thresholds: The different thresholds on it, ascending.
        cuts: The same, as an array.
        fails: Row ``k``: the tests that fail in each tree for a value above ``k`` thresholds;
            behind them, those that fail for a missing value.
        integers: The same, each row but the last as one integer.
    """

    column: int
    thresholds: list[float]
    cuts: FloatArray
    fails: NDArray[np.uint8]
    integers: list[int]


class Patterns:
    """The pattern of a customer in each tree.

    Attributes:
        players: The field of each different test, tree by tree.
        tests: How many of them each tree has.
        start: Where the patterns of each tree begin, and the end; shape ``(trees + 1,)``.
        values: What a tree answers to each of its patterns, shape ``(start[-1],)``.

    Raises:
        ValueError: A tree has too many tests, the trees together have, or a test asks for several
            fields.
    """

    def __init__(self, forest: Forest, sets: SetColumns | None = None) -> None:
        trees = len(forest.roots)
        nodes = np.flatnonzero(forest.column >= 0)
        tree, test = _different_tests(forest, nodes)
        first_node = nodes[np.unique(test, return_index=True)[1]]
        tree_of = tree[np.unique(test, return_index=True)[1]]
        self.tests = np.bincount(tree_of, minlength=trees)
        if self.tests.max() > _MAX_TESTS or forest.depth > _MAX_DEPTH:
            raise ValueError(f"a tree has more than {_MAX_TESTS} different tests")
        self.start = np.cumsum([0, *(1 << self.tests)])
        players = len(PLAYER_OF_COLUMN)
        width = len(first_node) * trees + int(self.start[-1]) * players * 8
        if width > _MAX_BYTES:
            raise ValueError("the trees have too many tests to tabulate")
        bit = np.arange(len(first_node)) - (np.cumsum(self.tests) - self.tests)[tree_of]
        columns = np.concatenate([PLAYER_OF_COLUMN, _players_of(sets)])
        self.players = columns[forest.column[first_node]]
        self._sets = sets
        self._trees = trees
        self._columns = _columns(forest, first_node, tree_of, bit)
        self.values = self._values(forest, nodes, bit[test])

    def row(self, row: Row) -> bytes:
        """Return the pattern of one customer in each tree, whose numbers are all there.

        The patterns of all trees together are one long integer: numpy is cold between requests.
        """
        if self._sets is not None:
            row = self._sets.row(row)
        fails = 0
        for column, thresholds, _, _, integers in self._columns:
            fails |= integers[bisect_left(thresholds, row[column])]
        return fails.to_bytes(self._trees, sys.byteorder)

    def matrix(self, X: FloatArray) -> NDArray[np.uint8]:
        """Return the patterns of customers, shape ``(n, trees)``."""
        if self._sets is not None:
            X = self._sets.matrix(X)
        patterns = np.zeros((len(X), self._trees), np.uint8)
        for column, _, cuts, fails, _ in self._columns:
            x = X[:, column]
            number = cuts.searchsorted(x)
            number[np.isnan(x)] = len(cuts) + 1
            patterns |= fails[number]
        return patterns

    def _values(
        self, forest: Forest, nodes: NDArray[np.intp], bits: NDArray[np.intp]
    ) -> FloatArray:
        """Walk each tree with each of its patterns."""
        bit_of = np.zeros(len(forest.column), np.intp)
        bit_of[nodes] = bits
        sizes = np.diff(self.start)
        pattern = np.arange(self.start[-1]) - np.repeat(self.start[:-1], sizes)
        node = np.repeat(forest.roots, sizes)
        for _ in range(forest.depth):
            right = (pattern >> bit_of[node] & 1).astype(np.bool_)
            left = np.where(forest.column[node] >= 0, node + 1, node)
            node = np.where(right, forest.right[node], left)
        return forest.number[node]


def _different_tests(
    forest: Forest, nodes: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the tree of each of these nodes, and the number of its test: equal ones have one."""
    tree = np.searchsorted(forest.roots, nodes, side="right") - 1
    # The last one counts most: the tests of a tree stand together.
    keys: list[NDArray[Any]] = [forest.number[nodes], forest.column[nodes], tree]
    if forest.missing_left is not None:
        keys.insert(0, forest.missing_left[nodes])
    order = np.lexsort(keys)
    ordered = [key[order] for key in keys]
    new = np.any([key[1:] != key[:-1] for key in ordered], axis=0)
    test = np.zeros(len(nodes), np.intp)
    test[order[1:]] = np.cumsum(new)
    return tree, test


def _players_of(sets: SetColumns | None) -> NDArray[np.intp]:
    """Return the field that each set column asks for."""
    players = []
    for columns in sets.columns if sets else ():
        asked = {int(PLAYER_OF_COLUMN[column]) for column in columns}
        if len(asked) > 1:
            raise ValueError("a test asks for several fields")
        players.append(min(asked, default=0))
    return np.array(players, np.intp)


def _columns(
    forest: Forest, node: NDArray[np.intp], tree: NDArray[np.intp], bit: NDArray[np.intp]
) -> list[_Column]:
    """Return what each column decides, given a node of each different test."""
    columns = []
    bits = (1 << bit).astype(np.uint8)
    for column in np.unique(forest.column[node]).tolist():
        here = forest.column[node] == column
        cuts, rank = np.unique(forest.number[node[here]], return_inverse=True)
        fails = np.zeros((len(cuts) + 2, len(forest.roots)), np.uint8)
        np.bitwise_or.at(fails, (rank + 1, tree[here]), bits[here])
        np.bitwise_or.accumulate(fails[:-1], axis=0, out=fails[:-1])
        right = here if forest.missing_left is None else here & ~forest.missing_left[node]
        np.bitwise_or.at(fails[-1], tree[right], bits[right])
        integers = [int.from_bytes(row.tobytes(), sys.byteorder) for row in fails[:-1]]
        columns.append(_Column(column, cuts.tolist(), cuts, fails, integers))
    return columns


class PatternImpacts:
    """A sum over the trees of what their tables say of the customer's patterns.

    Args:
        patterns: Of the trees.
        table: How much each field moves a tree's answer for each pattern, in log-odds; shape
            ``(patterns, fields)``.
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
        impacts = np.empty((len(X), self._table.shape[1]))
        places: NDArray[Any] = self._patterns.matrix(X) + self._start
        for first in range(0, len(X), _ROWS):
            part = slice(first, first + _ROWS)
            impacts[part] = self._table.take(places[part], axis=0).sum(axis=1)
        return impacts
