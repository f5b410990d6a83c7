"""What is tabulated of a forest: its trees if they are small, else each of their leaves.

A tree of a few different tests has few patterns, and one look-up answers for all of its leaves. A
larger one has too many; but the path to a leaf tests few different fields, and there are at most
2^8 patterns of those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from churn_serving.features.columns import FEATURE_NAMES
from churn_serving.model.reasons.patterns import Column, Patterns, starts_of
from churn_serving.model.reasons.players import PLAYER_OF_COLUMN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.model.trees import Forest, SetColumns

__all__ = ["patterns_of"]

_MAX_TESTS: Final = 8
"""A pattern is a byte."""
_MAX_DEPTH: Final = 16
"""Of a tree that is tabulated: it may repeat its tests."""
_MAX_LEAVES: Final = 2**16
_MAX_BYTES: Final = 32 * 1024**2
_PATTERN_BYTES: Final = 8 * len(FEATURE_NAMES)


def patterns_of(forest: Forest, sets: SetColumns | None = None) -> Patterns:
    """Return the patterns of these trees.

    Raises:
        ValueError: There are too many of them, or a test asks for several fields.
    """
    players = np.concatenate([PLAYER_OF_COLUMN, _players_of(sets)])
    return _of_trees(forest, sets, players) or _of_leaves(forest, sets, players)


def _players_of(sets: SetColumns | None) -> NDArray[np.intp]:
    """Return the field that each set column asks for."""
    players = []
    for columns in sets.columns if sets else ():
        asked = {int(PLAYER_OF_COLUMN[column]) for column in columns}
        if len(asked) > 1:
            raise ValueError("a test asks for several fields")
        players.append(min(asked, default=0))
    return np.array(players, np.intp)


def _require_few(columns: NDArray[Any], thresholds: FloatArray, bits: NDArray[np.intp]) -> None:
    """Refuse what would take too much memory, before it is taken."""
    # At most so many rows of a byte a unit: also one for no threshold, and one for a missing value.
    rows = len(np.unique(np.stack([columns, thresholds]), axis=1).T) + 2 * len(np.unique(columns))
    if rows * len(bits) + int((1 << bits).sum()) * _PATTERN_BYTES > _MAX_BYTES:
        raise ValueError("the trees are too large to tabulate")


def _of_trees(
    forest: Forest, sets: SetColumns | None, players: NDArray[np.intp]
) -> Patterns | None:
    """Return the patterns of the trees' tests; None if a tree has too many."""
    nodes = np.flatnonzero(forest.column >= 0)
    tree, test = _different_tests(forest, nodes)
    one_of_each = np.unique(test, return_index=True)[1]
    node, tree = nodes[one_of_each], tree[one_of_each]
    bits = np.bincount(tree, minlength=len(forest.roots))
    if bits.max() > _MAX_TESTS or forest.depth > _MAX_DEPTH:
        return None
    _require_few(forest.column[node], forest.number[node], bits)
    place = np.arange(len(node)) - (np.cumsum(bits) - bits)[tree]
    columns = []
    for column in np.unique(forest.column[node]).tolist():
        here = forest.column[node] == column
        cuts, rank = np.unique(forest.number[node[here]], return_inverse=True)
        fails = np.zeros((len(cuts) + 2, len(bits)), np.uint8)
        bit = (1 << place[here]).astype(np.uint8)
        np.bitwise_or.at(fails, (rank + 1, tree[here]), bit)
        np.bitwise_or.accumulate(fails[:-1], axis=0, out=fails[:-1])
        right = slice(None) if forest.missing_left is None else ~forest.missing_left[node[here]]
        np.bitwise_or.at(fails[-1], tree[here][right], bit[right])
        columns.append(Column.of(column, cuts, fails))
    bit_of = np.zeros(len(forest.column), np.intp)
    bit_of[nodes] = place[test]
    values = _walked(forest, bits, bit_of)
    return Patterns(tuple(columns), sets, players[forest.column[node]], bits, values)


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


def _walked(forest: Forest, bits: NDArray[np.intp], bit_of: NDArray[np.intp]) -> FloatArray:
    """Walk each tree with each of its patterns."""
    start = starts_of(bits)
    pattern = np.arange(start[-1]) - np.repeat(start[:-1], 1 << bits)
    node = np.repeat(forest.roots, 1 << bits)
    for _ in range(forest.depth):
        right = (pattern >> bit_of[node] & 1).astype(np.bool_)
        left = np.where(forest.column[node] >= 0, node + 1, node)
        node = np.where(right, forest.right[node], left)
    return forest.number[node]


class _Test(NamedTuple):
    """A test; the leaves on its left begin at ``first``, those on its right end at ``end``."""

    column: int
    threshold: float
    missing_left: bool
    first: int
    middle: int
    end: int


def _of_leaves(forest: Forest, sets: SetColumns | None, players: NDArray[np.intp]) -> Patterns:
    """Return the patterns of the fields on the leaves' paths."""
    is_leaf = forest.column < 0
    if int(is_leaf.sum()) > _MAX_LEAVES:
        raise ValueError("the trees have too many leaves to tabulate")
    nodes = np.flatnonzero(~is_leaf)
    tests = _tests(forest, nodes)
    on_path = np.zeros((len(FEATURE_NAMES), int(is_leaf.sum())), np.bool_)
    for test in tests:
        on_path[players[test.column], test.first : test.end] = True
    bits = on_path.sum(axis=0)
    _require_few(forest.column[nodes], forest.number[nodes], bits)
    # The bit of each field in each leaf's pattern.
    bit = np.where(on_path, 1 << (on_path.cumsum(axis=0) - on_path), 0).astype(np.uint8)
    columns = [
        _column(column, [test for test in tests if test.column == column], bit[players[column]])
        for column in np.unique(forest.column[nodes]).tolist()
    ]
    values = np.zeros(starts_of(bits)[-1])
    values[starts_of(bits)[:-1]] = forest.number[is_leaf]  # what no field leads away from
    return Patterns(tuple(columns), sets, np.nonzero(on_path.T)[1], bits, values)


def _tests(forest: Forest, nodes: NDArray[np.intp]) -> list[_Test]:
    is_leaf = forest.column < 0
    right = forest.right.tolist()
    counted = np.cumsum(is_leaf, dtype=np.intp)
    before = (counted - is_leaf).tolist()
    # Up to its last leaf: the leaves of a node stand together.
    ends = counted.tolist()
    for node in nodes[::-1].tolist():
        ends[node] = ends[right[node]]
    missing = np.zeros(len(is_leaf)) if forest.missing_left is None else forest.missing_left
    return [
        _Test(column, threshold, bool(left), before[node], before[right[node]], ends[node])
        for node, column, threshold, left in zip(
            nodes.tolist(),
            forest.column[nodes].tolist(),
            forest.number[nodes].tolist(),
            missing[nodes].tolist(),
            strict=True,
        )
    ]


def _column(column: int, tests: list[_Test], bit: NDArray[np.uint8]) -> Column:
    """Return what a column decides: it leads away from a leaf above a threshold, or up to it."""
    cuts, ranks = np.unique([test.threshold for test in tests], return_inverse=True)
    above, below = np.zeros((2, len(cuts) + 2, len(bit)), np.bool_)
    for rank, (_, _, missing_left, first, middle, end) in zip(ranks.tolist(), tests, strict=True):
        above[rank + 1, first:middle] = True
        below[rank, middle:end] = True
        above[-1, slice(middle, end) if missing_left else slice(first, middle)] = True
    np.logical_or.accumulate(above[:-1], axis=0, out=above[:-1])
    np.logical_or.accumulate(below[-2::-1], axis=0, out=below[-2::-1])
    return Column.of(column, cuts, (above | below) * bit)
