"""Forests as nodes in preorder, and the two ways to sum over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from churn_serving.model import trees
from churn_serving.model.trees import Forest, MaskSum, SetColumns, WalkSum, tree_sum

if TYPE_CHECKING:
    from numpy.random import Generator

    from churn_serving.features.columns import FloatArray

COLUMNS = 4


def _grown(random: Generator, leaves: int) -> tuple[list[int], list[float]]:
    """Return the columns and numbers of a random tree, in preorder."""
    if leaves == 1:
        return [-1], [float(random.normal())]
    left = int(random.integers(1, leaves))
    first, second = _grown(random, left), _grown(random, leaves - left)
    column, number = int(random.integers(COLUMNS)), float(random.integers(-3, 4)) / 2
    return [column, *first[0], *second[0]], [number, *first[1], *second[1]]


def _forest(sizes: list[int], *, missing: bool = False, seed: int = 0) -> Forest:
    random = np.random.default_rng(seed)
    grown = [_grown(random, leaves) for leaves in sizes]
    column = np.array([c for columns, _ in grown for c in columns], np.int16)
    number = np.array([n for _, numbers in grown for n in numbers])
    missing_left = random.integers(2, size=len(column)) == 1 if missing else None
    return Forest.of(column, number, missing_left)


def _walked(forest: Forest, row: list[float]) -> float:
    """Walk each tree, node by node, as a person would."""
    total = 0.0

    def end(node: int) -> int:
        return node + 1 if forest.column[node] < 0 else end(end(node + 1))

    node = 0
    while node < len(forest.column):
        root, at = node, node
        while forest.column[at] >= 0:
            x = row[forest.column[at]]
            left = (
                forest.missing_left is not None and bool(forest.missing_left[at])
                if np.isnan(x)
                else x <= forest.number[at]
            )
            at = at + 1 if left else end(at + 1)
        total += float(forest.number[at])
        node = end(root)
    return total


def _rows(rows: int, *, missing: bool = False) -> FloatArray:
    random = np.random.default_rng(1)
    on_thresholds = random.integers(-4, 5, size=(rows, COLUMNS)) / 2
    X: FloatArray = on_thresholds + random.choice([0, 0, 0.25], (rows, 1))
    if missing:
        X[random.random(X.shape) < 0.3] = np.nan
    return X


SIZES = [[1], [2], [1, 1, 1], [8] * 5, [9] * 5, [3, 1, 17], [33, 2], [64] * 7, [63, 64, 1]]
MORE = [[65], [200, 1, 90]]


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [*(("masks", s) for s in SIZES), *(("walk", s) for s in SIZES + MORE)],
    ids=str,
)
def test_the_sum_is_that_of_the_leaves_that_a_walk_finds(
    kind: str, sizes: list[int], *, missing: bool
) -> None:
    forest = _forest(sizes, missing=missing)
    summed: Any = (
        MaskSum(forest, baseline=0.5, scale=2.0)
        if kind == "masks"
        else WalkSum(forest, COLUMNS, baseline=0.5, scale=2.0)
    )
    X = _rows(200, missing=True)  # without a side of their own, missing values go to the right
    expected = [0.5 + 2 * _walked(forest, row) for row in X.tolist()]
    np.testing.assert_allclose(summed.matrix(X), expected, rtol=0, atol=1e-12)
    whole = [tuple(row) for row in X.tolist() if not np.isnan(row).any()]
    by_row = [summed.row(row) for row in whole]
    expected = [0.5 + 2 * _walked(forest, list(row)) for row in whole]
    np.testing.assert_allclose(by_row, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("joint_bytes", [0, 200, 2**20])
@pytest.mark.parametrize("trees_of_a_few_leaves", [2, 3])
def test_columns_looked_up_together_or_alone_give_the_same_sum(
    joint_bytes: int, trees_of_a_few_leaves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "_JOINT_BYTES", joint_bytes)
    forest = _forest([3] * trees_of_a_few_leaves, missing=True)
    X = _rows(200, missing=True)
    expected = [_walked(forest, row) for row in X.tolist()]
    found = MaskSum(forest, baseline=0.0, scale=1.0).matrix(X)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_many_rows_and_trees_are_walked_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_ROWS", 7)
    monkeypatch.setattr(trees, "_LANES", 20)
    forest = _forest([70, 3, 90, 1, 80])
    X = _rows(50)
    expected = [_walked(forest, row) for row in X.tolist()]
    found = WalkSum(forest, COLUMNS, baseline=0.0, scale=1.0).matrix(X)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_small_trees_get_masks_and_large_ones_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(sizes: list[int]) -> type[Any]:
        return type(tree_sum(_forest(sizes), COLUMNS, baseline=0.0, scale=1.0))

    assert kind([64, 3]) is MaskSum
    assert kind([65, 3]) is WalkSum
    monkeypatch.setattr(trees, "_MAX_MASK_BYTES", 100)
    assert kind([64, 3]) is WalkSum


@pytest.mark.parametrize(
    "column",
    [
        [],
        [0],
        [0, -1],
        [0, 0, -1, -1],
        [-1, 0],
        [-1, 1, -1],
        [0] * 100,
    ],
    ids=str,
)
def test_nodes_that_end_in_the_middle_of_a_tree_are_refused(column: list[int]) -> None:
    with pytest.raises(ValueError, match="the last tree has no end"):
        Forest.of(np.array(column, np.int16), np.zeros(len(column)))


def test_a_tree_that_is_too_deep_is_refused() -> None:
    depth = trees.MAX_DEPTH
    for deeper in (0, 1):
        column = np.array([*[0] * (depth + deeper), *[-1] * (depth + deeper + 1)], np.int16)
        if deeper:
            with pytest.raises(ValueError, match="deeper than 512"):
                Forest.of(column, np.zeros(len(column)))
        else:
            assert Forest.of(column, np.zeros(len(column))).depth == depth


def test_a_set_column_says_who_belongs_to_the_set() -> None:
    sets = SetColumns(
        np.array([0, 2, 2, 3], np.int32), np.array([1, 2, 0], np.int16), np.array([1.0, 1.0, 7.0])
    )
    X = np.array([[7.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [np.nan, 0.0, 0.5]])
    expected = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(sets.matrix(X)[:, 3:], expected)
    np.testing.assert_array_equal(np.array([sets.row(tuple(row))[3:] for row in X]), expected)
    assert len(sets) == 3
