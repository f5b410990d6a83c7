"""Trees as an estimator knows them, and the same trees over the unscaled row.

The estimator tests ``cast(f(x)) <= t`` (XGBoost: ``<``), where ``f`` is what its preprocessing does
to a number of the row. That never decreases in ``x``, so there is a largest float64 for which the
test is true: the threshold in raw units. It is found by bisection over the bit patterns of doubles,
with the estimator's own arithmetic, so it is exact whatever was rounded on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from churn_serving.features.columns import COLUMN_NAMES, FloatArray
from churn_serving.learning.compiling.inputs import Cases, Numeric, domain_of, unsupported
from churn_serving.model.trees import MAX_DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from churn_serving.learning.compiling.inputs import Column

__all__ = ["FLOAT32", "FLOAT64", "Arithmetic", "Nodes", "Sides", "compile_nodes", "raw_thresholds"]

_LARGEST: Final = float(np.finfo(np.float64).max)
_MAX_SETS: Final = int(np.iinfo(np.int16).max) - len(COLUMN_NAMES)

_MAX_PAIRS: Final = 50_000
"""Each takes its time with every customer."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How an estimator compares a number with a threshold.

    Attributes:
        cast: What it makes of a float64 first; it never decreases.
        strict: It asks ``<``, not ``<=``.
    """

    cast: Callable[[FloatArray], NDArray[Any]]
    strict: bool = False

    def left(
        self, values: FloatArray, thresholds: NDArray[Any] | np.floating[Any]
    ) -> NDArray[np.bool_]:
        """Return which of the values go to the left; a missing one goes to the right."""
        with np.errstate(over="ignore"):  # to infinity, as the estimator's own cast does
            values = self.cast(values)
        return values < thresholds if self.strict else values <= thresholds


FLOAT64: Final = Arithmetic(lambda values: values)
FLOAT32: Final = Arithmetic(lambda values: values.astype(np.float32))


class Sides(NamedTuple):
    """Where a categorical test sends a code: True is to the left."""

    codes: dict[int, bool]
    other: bool
    missing: bool

    def left(self, values: FloatArray) -> NDArray[np.bool_]:
        """Return which of the values go to the left."""
        return np.array(
            [
                self.missing if np.isnan(value) else self.codes.get(int(value), self.other)
                for value in values.tolist()
            ],
            dtype=np.bool_,
        )


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of all trees, one tree after the other.

    Attributes:
        roots: The first node of each tree.
        feature: The column that a node tests, -1 for a leaf.
        threshold: In the estimator's units and type.
        left: The left child's index over all trees; what a leaf has here does not matter.
        right: Likewise.
        value: Of a leaf.
        missing_left: Where a missing value goes; None if the estimator takes none.
        sides: The categorical tests, by node.
    """

    roots: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: NDArray[Any]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    value: FloatArray
    missing_left: NDArray[np.bool_] | None = None
    sides: dict[int, Sides] = field(default_factory=dict)


def raw_thresholds(column: Numeric, thresholds: NDArray[Any], arithmetic: Arithmetic) -> FloatArray:
    """Return for each threshold the largest number of the row that goes to the left.

    Where none does it is the lowest double, where all do the largest.
    """
    low = np.full(len(thresholds), _key(np.array([-_LARGEST]))[0])
    high = np.full(len(thresholds), _key(np.array([_LARGEST]))[0])
    all_left = arithmetic.left(column.of(_double(high)), thresholds)
    # From here on low goes to the left (or nothing does), high to the right.
    for _ in range(64):
        # The mean, rounded down, without a sum that needs a 65th bit.
        middle = (low & high) + ((low ^ high) >> 1)
        left = arithmetic.left(column.of(_double(middle)), thresholds)
        low = np.where(left, middle, low)
        high = np.where(left, high, middle)
    return np.where(all_left, _LARGEST, _double(low))


def _key(values: FloatArray) -> NDArray[np.int64]:
    """Return integers in the order of the doubles: neighbours differ by one."""
    bits = values.view(np.int64)
    return np.where(bits < 0, bits ^ np.iinfo(np.int64).max, bits)


def _double(keys: NDArray[np.int64]) -> FloatArray:
    return np.where(keys < 0, keys ^ np.iinfo(np.int64).max, keys).view(np.float64)


class _Test(NamedTuple):
    """A test over the row, for one of the estimator's.

    Attributes:
        column: Of the row, or a set column.
        threshold: Up to here, to the left.
        swapped: The left child here is the estimator's right one.
        missing_left: Here.
    """

    column: int
    threshold: float
    swapped: bool
    missing_left: bool


class _Sets:
    """The set columns that the tests need, each once."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[tuple[int, float], ...], int] = {}
        self._pairs = 0

    def test(self, cases: Cases, left: list[bool], *, other: bool | None) -> _Test:
        """Return the test that sends these cases to these sides.

        Args:
            cases: What is tested.
            left: The side of each case.
            other: The side of any other; None if there is no other.
        """
        if other is None:
            # Whatever is more: the members are fewer then.
            other = 2 * sum(left) > len(left)
        in_order = _in_order(cases, left, other=other)
        if in_order is not None:
            return in_order
        members = tuple(case for case, side in zip(cases.cases, left, strict=True) if side != other)
        if len(members) == 1 and members[0][1] == 1 and domain_of(members[0][0]) == (0.0, 1.0):
            return _Test(members[0][0], 0.5, swapped=not other, missing_left=True)
        if members not in self._numbers:
            self._pairs += len(members)
            if len(self._numbers) >= _MAX_SETS or self._pairs > _MAX_PAIRS:
                raise unsupported("Trees that divide a category in this many ways are not taken")
        number = self._numbers.setdefault(members, len(self._numbers))
        return _Test(len(COLUMN_NAMES) + number, 0.5, swapped=not other, missing_left=True)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the sets as the portable form stores them; nothing if there are none."""
        if not self._numbers:
            return {}
        pairs = [pair for members in self._numbers for pair in members]
        return {
            "set_start": np.cumsum([0, *map(len, self._numbers)]).astype(np.int32),
            "set_column": np.array([column for column, _ in pairs], np.int16),
            "set_value": np.array([value for _, value in pairs], np.float64),
        }


def _in_order(cases: Cases, left: list[bool], *, other: bool) -> _Test | None:
    """Return a threshold on the column itself, if that tells the two sides apart."""
    column = cases.cases[0][0]
    if all(side == other for side in left):
        return _Test(column, _LARGEST, swapped=not other, missing_left=True)
    sides = {
        value: side
        for (index, value), side in zip(cases.cases, left, strict=True)
        if index == column
    }
    domain = domain_of(column)
    if len(sides) < len(cases.cases) or domain is None or not set(domain) <= set(sides):
        return None
    ordered = [sides[value] for value in domain]
    first = ordered[0]
    same = ordered.index(not first) if (not first) in ordered else len(ordered)
    if first in ordered[same:]:
        return None
    threshold = _LARGEST if same == len(ordered) else (domain[same - 1] + domain[same]) / 2
    return _Test(column, threshold, swapped=not first, missing_left=other == first)


def compile_nodes(
    nodes: Nodes, columns: tuple[Column, ...], arithmetic: Arithmetic
) -> dict[str, NDArray[Any]]:
    """Return the same trees over the unscaled row, as the portable form stores them.

    Args:
        nodes: The estimator's trees.
        columns: What the estimator sees.
        arithmetic: How it compares.
    """
    count = len(nodes.feature)
    inner = nodes.feature >= 0
    is_categorical = np.zeros(count, np.bool_)
    is_categorical[list(nodes.sides)] = True
    missing = (
        np.zeros(count, np.bool_) if nodes.missing_left is None else nodes.missing_left & inner
    )
    known = missing.copy()
    column = np.full(count, -1, np.int16)
    threshold = np.zeros(count)
    swapped = np.zeros(count, np.bool_)
    sets = _Sets()

    def put(where: Any, test: _Test) -> None:  # noqa: ANN401 - one index or several
        column[where], threshold[where], swapped[where], missing[where] = test

    for number in np.unique(nodes.feature[inner]).tolist():
        source = columns[number]
        here = inner & (nodes.feature == number)
        ordered = np.flatnonzero(here & ~is_categorical)
        cuts, cut_of = np.unique(nodes.threshold[ordered], return_inverse=True)
        if isinstance(source, Numeric):
            column[ordered] = source.column
            threshold[ordered] = raw_thresholds(source, cuts, arithmetic)[cut_of]
        else:
            # Of many thresholds, few divide the cases differently: as often as they have values.
            below = _count_left(source, cuts, arithmetic)[cut_of]
            group = 2 * below + known[ordered]
            for first in np.unique(group, return_index=True)[1].tolist():
                cut = cuts[cut_of[first]]
                missing_left = bool(known[ordered[first]])
                test = _case_test(sets, source, cut, arithmetic, missing_left=missing_left)
                put(ordered[group == group[first]], test)
        categorical = np.flatnonzero(here & is_categorical).tolist()
        if categorical:
            cases = source.enumerated()
            seen, other = _numbers_of(cases)
            for node in categorical:
                sides = nodes.sides[node]
                side = None if other is None else bool(sides.left(other)[0])
                put(node, sets.test(cases, sides.left(seen).tolist(), other=side))

    position = _preorder(nodes, swapped)
    order = np.flatnonzero(position >= 0)
    order = order[np.argsort(position[order])]
    arrays: dict[str, NDArray[Any]] = {
        "column": column[order],
        "number": np.where(column < 0, nodes.value, threshold)[order],
    }
    if nodes.missing_left is not None:
        arrays["missing_left"] = missing[order]
    return arrays | sets.arrays()


def _numbers_of(cases: Cases) -> tuple[FloatArray, FloatArray | None]:
    try:
        seen = np.array(cases.values, np.float64)
        return seen, None if cases.other is None else np.array([cases.other], np.float64)
    except ValueError as error:
        raise unsupported("A category that is a word reaches the classifier") from error


def _count_left(cases: Cases, thresholds: NDArray[Any], arithmetic: Arithmetic) -> NDArray[np.intp]:
    """Return how many of the values each threshold sends to the left: that says which."""
    count = np.zeros(len(thresholds), np.intp)
    for values in _numbers_of(cases):
        for value in () if values is None else values.tolist():
            count += arithmetic.left(np.array([value]), thresholds)
    return count


def _case_test(
    sets: _Sets,
    cases: Cases,
    threshold: np.floating[Any],
    arithmetic: Arithmetic,
    *,
    missing_left: bool,
) -> _Test:
    def left(values: FloatArray) -> list[bool]:
        sides = arithmetic.left(values, threshold)
        return [bool(side) for side in np.where(np.isnan(values), missing_left, sides)]

    seen, other = _numbers_of(cases)
    return sets.test(cases, left(seen), other=None if other is None else left(other)[0])


def _preorder(nodes: Nodes, swapped: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return each node's place in preorder, -1 if no root leads to it."""
    levels: list[NDArray[np.intp]] = []
    level = nodes.roots
    while len(level):
        if len(levels) > MAX_DEPTH:
            raise unsupported(f"A tree that is deeper than {MAX_DEPTH} is not taken")
        levels.append(level)
        parents = level[nodes.feature[level] >= 0]
        level = np.concatenate([nodes.left[parents], nodes.right[parents]])
    size = np.ones(len(nodes.feature), np.intp)
    for level in reversed(levels):
        parents = level[nodes.feature[level] >= 0]
        size[parents] += size[nodes.left[parents]] + size[nodes.right[parents]]
    position = np.full(len(nodes.feature), -1, np.intp)
    position[nodes.roots] = np.cumsum(size[nodes.roots]) - size[nodes.roots]
    first = np.where(swapped, nodes.right, nodes.left)
    second = np.where(swapped, nodes.left, nodes.right)
    for level in levels:
        parents = level[nodes.feature[level] >= 0]
        position[first[parents]] = position[parents] + 1
        position[second[parents]] = position[parents] + 1 + size[first[parents]]
    return position
