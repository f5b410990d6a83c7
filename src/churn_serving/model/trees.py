"""Sums over binary decision trees, run by numpy and the standard library.

A forest is stored as its nodes in preorder, one tree after the other: a node is followed by its
left subtree, then by its right one. Which of them are leaves says the rest: where each subtree
ends, and with it each right child, and where the next tree begins. So no file can describe a cycle,
or a node with two parents.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from operator import getitem
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row

__all__ = ["Forest", "MaskSum", "SetColumns", "TreeSum", "WalkSum", "tree_sum"]

MAX_DEPTH: Final = 512
_MAX_LEAVES: Final = 64
_MAX_MASK_BYTES: Final = 16 * 1024**2
_LANES: Final = 16_384
"""Rows times trees that are walked at once: their arrays stay in the processor's caches."""
_ROWS: Final = 2048
_CACHE_BYTES: Final = 2**18
_JOINT_BYTES: Final = 2**16
"""Columns are looked up together if their masks stay in the caches, beside all others."""
_BYTE: Final = 256
_STEPS: Final = 6
"""Levels that are walked before those that have arrived are left out: looking costs time, too."""
_BIT_LENGTH: Final = bytes(number.bit_length() for number in range(256))


@dataclass(frozen=True, slots=True)
class Forest:
    """Decision trees, as arrays of their nodes.

    Attributes:
        column: Which column a node tests, -1 for a leaf; shape ``(nodes,)``.
        number: The threshold of a node, the value of a leaf; shape ``(nodes,)``.
        missing_left: Whether a missing value goes to the left; shape ``(nodes,)``. None: to the
            right, everywhere.
        right: The right child of a node, itself for a leaf; the left child is the next node.
        roots: The first node of each tree.
        depth: The most tests between a root and a leaf.

    Raises:
        ValueError: The nodes are no trees.
    """

    column: NDArray[np.int16]
    number: FloatArray
    missing_left: NDArray[np.bool_] | None
    right: NDArray[np.intp]
    roots: NDArray[np.intp]
    depth: int

    @classmethod
    def of(
        cls,
        column: NDArray[np.int16],
        number: FloatArray,
        missing_left: NDArray[np.bool_] | None = None,
    ) -> Forest:
        """Return the forest of these nodes."""
        nodes = len(column)
        inner = column >= 0
        # A subtree has one leaf more than it has other nodes: it ends where the count, one up for
        # those and one down for leaves, is first below what it was before.
        count = np.cumsum(np.where(inner, 1, -1))
        lowest = np.minimum.accumulate(np.minimum(count, 0))
        ends = np.flatnonzero(np.diff(lowest, prepend=0))
        if len(ends) == 0 or ends[-1] != nodes - 1:
            raise ValueError("the last tree has no end")
        roots = np.concatenate([[0], ends[:-1] + 1]).astype(np.intp)
        right = np.arange(nodes, dtype=np.intp)
        # The left subtree of a node ends at the first count below the node's own: for each count,
        # its places in ascending order.
        order = np.argsort(count, kind="stable")
        keys = (count[order] - count.min()) * nodes + order
        parents = np.flatnonzero(inner)
        sought = (count[parents] - 1 - count.min()) * nodes + parents
        right[parents] = order[np.searchsorted(keys, sought)] + 1
        return cls(column, number, missing_left, right, roots, _depth(inner, right, roots))

    @property
    def leaves(self) -> int:
        """The most leaves of a tree."""
        sizes = np.diff(self.roots, append=len(self.column))
        return int((sizes.max() + 1) // 2)


def _depth(inner: NDArray[np.bool_], right: NDArray[np.intp], level: NDArray[np.intp]) -> int:
    for depth in range(MAX_DEPTH + 1):
        parents = level[inner[level]]
        if not len(parents):
            return depth
        level = np.concatenate([parents + 1, right[parents]])
    raise ValueError(f"a tree is deeper than {MAX_DEPTH}")


class SetColumns:
    """Columns that say whether a customer belongs to a set: 1.0 or 0.0, behind the row's own.

    Args:
        start: Where the pairs of each set begin, and the end; shape ``(sets + 1,)``.
        column: The column of each pair.
        value: A customer with this value in that column belongs to the set.
    """

    def __init__(
        self, start: NDArray[np.int32], column: NDArray[np.int16], value: FloatArray
    ) -> None:
        pairs = list(zip(column.tolist(), value.tolist(), strict=True))
        bounds = start.tolist()
        self._sets = [pairs[a:b] for a, b in pairwise(bounds)]

    def __len__(self) -> int:
        return len(self._sets)

    @property
    def columns(self) -> list[list[int]]:
        """The columns that each set asks for."""
        return [[column for column, _ in pairs] for pairs in self._sets]

    def row(self, row: Row) -> Row:
        """Return the row with its set columns."""
        return (*row, *(float(any(row[c] == v for c, v in pairs)) for pairs in self._sets))

    def matrix(self, X: FloatArray) -> FloatArray:
        """Return the matrix with its set columns."""
        added = np.zeros((len(X), len(self._sets)))
        for number, pairs in enumerate(self._sets):
            for column, value in pairs:
                added[X[:, column] == value, number] = 1
        return np.concatenate([X, added], axis=1)


class TreeSum(Protocol):
    """``baseline + scale * (the values of the leaves that a customer reaches)``."""

    def row(self, row: Row) -> float:
        """Return the sum for one customer, whose numbers are all there."""
        ...

    def matrix(self, X: FloatArray) -> FloatArray:
        """Return the sums, shape ``(n,)``; a missing value (NaN) goes where the trees send it."""
        ...


class _Column(NamedTuple):
    """What the trees ask of one column.

    Attributes:
        column: Which.
        thresholds: The different thresholds on it, ascending.
        cuts: The same, as an array.
        masks: Row ``k``: the leaves alive in each tree for a value above ``k`` thresholds; behind
            them, those alive for a missing value.
        integers: The same, each row but the last as one integer.
    """

    column: int
    thresholds: list[float]
    cuts: FloatArray
    masks: NDArray[Any]
    integers: list[int]


class MaskSum:
    """Small trees, all walked at once by leaf masks.

    The algorithm is QuickScorer (Lucchese et al., "QuickScorer: a fast algorithm to rank documents
    with additive ensembles of regression trees", SIGIR 2015), laid out for numpy. Number the leaves
    of a tree from left to right and give each one bit. A node whose test ``x <= threshold`` is
    false rules out the leaves of its left subtree; the leftmost leaf that no node rules out is the
    one the tree would have reached. With the thresholds of a feature sorted, the nodes that are
    false for a value are a prefix, so the AND of their masks can be tabulated: one look-up per
    feature answers for every tree.

    Raises:
        ValueError: A tree has too many leaves, or the trees together too many nodes.
    """

    def __init__(self, forest: Forest, *, baseline: float, scale: float) -> None:
        is_leaf = forest.column < 0
        leaves, trees = forest.leaves, len(forest.roots)
        if leaves > _MAX_LEAVES:
            raise ValueError(f"more than {_MAX_LEAVES} leaves in a tree")
        dtype = np.min_scalar_type(2**leaves - 1)
        inner = np.flatnonzero(~is_leaf)
        tests = {c: inner[forest.column[inner] == c] for c in np.unique(forest.column[inner])}
        rows = sum(len(np.unique(forest.number[nodes])) + 2 for nodes in tests.values())
        if rows * trees * dtype.itemsize > _MAX_MASK_BYTES:
            raise ValueError("too many thresholds to tabulate")

        sizes = np.diff(forest.roots, append=len(is_leaf))
        tree = np.repeat(np.arange(trees), sizes)
        # How many leaves of its tree stand before a node.
        before: NDArray[np.intp] = np.cumsum(is_leaf) - is_leaf
        before -= np.repeat(before[forest.roots], sizes)
        self._baseline = baseline
        # The first value is that of no leaf: a leaf's number is counted from 1.
        self._values = np.zeros((trees, leaves + 1))
        self._values[tree[is_leaf], before[is_leaf] + 1] = scale * forest.number[is_leaf]
        self._value_tuples = [tuple(values) for values in self._values.tolist()]
        self._one = np.ones(trees, dtype)
        self._one_integer = _as_integer(self._one)
        self._all = ~np.zeros(trees, dtype)
        self._all_integer = _as_integer(self._all)

        # 2**64 fits no integer of numpy's; that it is 0 to them makes the difference right.
        powers = np.array([2**k % 2**64 for k in range(_MAX_LEAVES + 1)], np.uint64)
        goes_left = forest.missing_left
        self._columns = []
        for column, nodes in tests.items():
            ruled_out = powers[before[forest.right[nodes]]] - powers[before[nodes + 1]]
            keeps = ~ruled_out.astype(dtype)
            cuts, rank = np.unique(forest.number[nodes], return_inverse=True)
            masks = np.tile(self._all, (len(cuts) + 2, 1))
            np.bitwise_and.at(masks, (rank + 1, tree[nodes]), keeps)
            np.bitwise_and.accumulate(masks[:-1], axis=0, out=masks[:-1])
            right = slice(None) if goes_left is None else ~goes_left[nodes]
            np.bitwise_and.at(masks[-1], tree[nodes][right], keeps[right])
            integers = [_as_integer(mask) for mask in masks[:-1]]
            self._columns.append(_Column(int(column), cuts.tolist(), cuts, masks, integers))
        self._joint = list(_joined(self._columns))
        self._pairs = _in_pairs(self._values)
        looked_up = self._values if self._pairs is None else self._pairs
        self._offsets = np.arange(len(looked_up)) * looked_up.shape[1]

    def row(self, row: Row) -> float:
        """Return the sum for one customer.

        Without numpy: its calls are cheap in a loop, but each takes microseconds between two
        requests, when it is no longer in the processor's caches. The masks of all trees together
        are one long integer.
        """
        alive = self._all_integer
        for index, thresholds, _, _, integers in self._columns:
            alive &= integers[bisect_left(thresholds, row[index])]
        # The bits up to and with that of the leaf. No tree's mask is zero, so no subtraction
        # borrows from its neighbour's.
        bits = (alive ^ (alive - self._one_integer)).to_bytes(self._one.nbytes, sys.byteorder)
        leaves = (
            bits.translate(_BIT_LENGTH)
            if self._one.itemsize == 1
            else map(int.bit_length, memoryview(bits).cast(self._one.dtype.char))
        )
        return sum(map(getitem, self._value_tuples, leaves), self._baseline)

    def matrix(self, X: FloatArray) -> FloatArray:
        """Return the sums, shape ``(n,)``."""
        # As many customers at a time as leave their masks in the processor's caches.
        rows = max(1, _CACHE_BYTES // self._one.nbytes)
        if len(X) <= rows:
            return self._sums(X)
        return np.concatenate(
            [self._sums(X[first : first + rows]) for first in range(0, len(X), rows)]
        )

    def _sums(self, X: FloatArray) -> FloatArray:
        alive = np.tile(self._all, (len(X), 1))
        for columns, masks in self._joint:
            number = _number(X, columns[0])
            for column in columns[1:]:
                number *= len(column.masks)
                number += _number(X, column)
            alive &= masks.take(number, axis=0)
        leaves = np.bitwise_count(alive ^ (alive - self._one))
        values = self._values
        if self._pairs is not None:
            # Two trees are one look-up: the number of a pair of leaves fits a byte.
            half = len(self._pairs)
            pairs = leaves[:, :half] * np.uint8(values.shape[1])
            pairs[:, : leaves.shape[1] - half] += leaves[:, half:]
            leaves, values = pairs, self._pairs
        sums: FloatArray = values.take(leaves + self._offsets).sum(axis=1) + self._baseline
        return sums


def _joined(columns: Sequence[_Column]) -> Iterator[tuple[list[_Column], NDArray[Any]]]:
    """Join columns of few thresholds: one look-up by the numbers of all answers for all of them."""
    joint: list[_Column] = []
    masks: NDArray[Any] = np.empty((0, 0))
    for column in sorted(columns, key=lambda column: len(column.cuts)):
        if joint and len(masks) * column.masks.nbytes <= _JOINT_BYTES:
            joint.append(column)
            masks = (masks[:, None] & column.masks).reshape(-1, masks.shape[1])
            continue
        if joint:
            yield joint, masks
        joint, masks = [column], column.masks
    if joint:
        yield joint, masks


def _in_pairs(values: FloatArray) -> FloatArray | None:
    """Return the sum of each pair of leaves of tree ``k`` and of tree ``k`` of the other half.

    None: the number of a pair would not fit a byte. A tree without another one has the leaf 0
    beside it, whose value is 0.
    """
    trees, leaves = values.shape
    if leaves**2 > _BYTE:
        return None
    half = (trees + 1) // 2
    other = np.zeros((half, leaves))
    other[: trees - half] = values[half:]
    pairs: FloatArray = (values[:half, :, None] + other[:, None, :]).reshape(half, -1)
    return pairs


def _number(X: FloatArray, column: _Column) -> NDArray[np.intp]:
    """Return the row of the masks for each customer: how many thresholds the value is above."""
    x = X[:, column.column]
    number: NDArray[np.intp] = (
        (x > column.cuts[0]).astype(np.intp)
        if len(column.cuts) == 1
        else column.cuts.searchsorted(x)
    )
    number[np.isnan(x)] = len(column.cuts) + 1
    return number


def _as_integer(masks: NDArray[Any]) -> int:
    return int.from_bytes(masks.tobytes(), sys.byteorder)


class WalkSum:
    """Trees of any size, walked level by level: many trees, and many customers, at once."""

    def __init__(self, forest: Forest, columns: int, *, baseline: float, scale: float) -> None:
        self._baseline = baseline
        self._scale = scale
        inner = forest.column >= 0
        # Level by level, so that siblings are neighbours: from the left child to the right one is
        # a step of one.
        levels, level = [], forest.roots
        while len(level):
            levels.append(level)
            parents = level[inner[level]]
            level = np.stack([parents + 1, forest.right[parents]], axis=1).ravel()
        order = np.concatenate(levels)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        self._roots = place[forest.roots]
        # A leaf tests a column behind all others that is less than any number, and so stays.
        self._column = np.where(inner, forest.column, columns).astype(np.int16)[order]
        self._number = forest.number[order]
        left_child = np.where(inner, np.arange(len(order)) + 1, np.arange(len(order)))
        self._left = place[left_child[order]].astype(np.int32)
        self._missing_left = None if forest.missing_left is None else forest.missing_left[order]

    def row(self, row: Row) -> float:
        """Return the sum for one customer."""
        leaves = self._leaves(np.array((*row, -np.inf)), np.zeros_like(self._roots), self._roots)
        return self._scale * float(self._number.take(leaves).sum()) + self._baseline

    def matrix(self, X: FloatArray) -> FloatArray:
        """Return the sums, shape ``(n,)``."""
        width = X.shape[1] + 1
        sums = np.zeros(len(X))
        # Few trees and many customers at a time: then the nodes stay in the processor's caches.
        rows = max(1, min(len(X), _ROWS))
        trees = max(1, _LANES // rows)
        for first in range(0, len(X), rows):
            part = X[first : first + rows]
            x = np.concatenate([part, np.full((len(part), 1), -np.inf)], axis=1).ravel()
            begins = np.arange(0, len(x), width)
            for tree in range(0, len(self._roots), trees):
                roots = self._roots[tree : tree + trees]
                leaves = self._leaves(x, np.tile(begins, len(roots)), np.repeat(roots, len(part)))
                values = self._number.take(leaves).reshape(len(roots), -1)
                sums[first : first + rows] += values.sum(axis=0)
        return self._scale * sums + self._baseline

    def _leaves(
        self, x: FloatArray, begin: NDArray[np.intp], node: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Return the leaves that are reached from nodes, each by the row that begins there in x."""
        leaves = np.empty_like(node)
        lane = np.arange(len(node))
        while len(node):
            for _ in range(_STEPS):
                before = node
                values = x.take(self._column.take(node, mode="clip") + begin, mode="clip")
                right = ~(values <= self._number.take(node, mode="clip"))
                if (missing_left := self._missing_left) is not None:
                    right &= ~(np.isnan(values) & missing_left.take(node, mode="clip"))
                node = np.add(self._left.take(node, mode="clip"), right, dtype=np.intp)
            walking = node != before
            leaves[lane[~walking]] = node[~walking]
            lane, begin, node = lane[walking], begin[walking], node[walking]
        return leaves


def tree_sum(forest: Forest, columns: int, *, baseline: float, scale: float) -> TreeSum:
    """Return the fastest way to sum over these trees, whose rows have so many columns."""
    try:
        return MaskSum(forest, baseline=baseline, scale=scale)
    except ValueError:
        return WalkSum(forest, columns, baseline=baseline, scale=scale)
