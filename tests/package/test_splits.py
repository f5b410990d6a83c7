from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split

from churn_serving.errors import DataError
from churn_serving.learning.splits import (
    Customers,
    Split,
    customers_of,
    folds,
    hold_out,
    hold_out_latest,
    identical_rows,
    number_customers,
    repeats,
)
from tests.package.tables import rows_of

if TYPE_CHECKING:
    from churn_serving.learning.dataset import Dataset


def _people(seed: int, *, conflicting: float = 0.1) -> tuple[Customers, np.ndarray]:
    """Return some 100 customers with 1 to 12 rows each, and their labels."""
    random = np.random.default_rng(seed)
    groups = random.permutation(np.repeat(np.arange(100), random.integers(1, 12, 100)))
    y = (random.random(100) < 0.3).astype(np.int64)[groups]
    y = np.where(random.random(len(y)) < conflicting, 1 - y, y)
    return number_customers(groups, y), y


def _meet(customers: Customers, one: np.ndarray, other: np.ndarray) -> bool:
    return bool(set(customers.of_row[one]) & set(customers.of_row[other]))


@pytest.mark.parametrize("seed", range(10))
def test_a_customer_is_on_one_side_of_every_split(seed: int) -> None:
    customers, _ = _people(seed)
    split = hold_out(customers, share=0.2, seed=seed)
    parts = folds(customers, parts=5, repeats=3, seed=seed)
    assert len(parts) == 15
    for train, test in [(split.train, split.test), *parts]:
        assert sorted([*train, *test]) == list(range(len(customers.of_row)))
        assert not _meet(customers, train, test)


@pytest.mark.parametrize("seed", range(10))
def test_every_part_has_its_share_of_rows_and_labels(seed: int) -> None:
    customers, y = _people(seed, conflicting=0)
    for _, test in folds(customers, parts=5, repeats=1, seed=seed):
        assert abs(len(test) - len(y) / 5) <= 2 * 12
        assert abs(y[test].sum() - y.sum() / 5) <= 12


def test_ten_customers_of_each_label_are_enough_for_both_in_every_fold() -> None:
    for mixed in range(11):
        left = np.r_[np.ones(10, bool), np.zeros(10 - mixed, bool)]
        stayed = np.r_[np.ones(mixed, bool), np.zeros(10 - mixed, bool), np.ones(10 - mixed, bool)]
        # Rows: one of each label that a customer has; the first has one more, so not all are alike.
        of_row = np.r_[np.flatnonzero(left), np.flatnonzero(stayed), 0]
        y = np.r_[np.ones(left.sum()), np.zeros(stayed.sum()), 1].astype(np.int64)
        customers = number_customers(of_row, y)
        split = hold_out(customers, share=0.2, seed=mixed)
        rest = number_customers(customers.of_row[split.train], y[split.train])
        parts = [
            (split.train[a], split.train[b]) for a, b in folds(rest, parts=5, repeats=2, seed=1)
        ]
        for train, test in [(split.train, split.test), *parts]:
            assert set(y[train]) == set(y[test]) == {0, 1}


def test_customers_with_a_row_each_are_split_as_scikit_learn_does() -> None:
    y = (np.arange(100) % 4 == 0).astype(np.int64)
    customers = number_customers(np.arange(100), y)
    train, test = train_test_split(np.arange(100), test_size=0.2, stratify=y, random_state=7)
    split = hold_out(customers, share=0.2, seed=7)
    assert list(split.train) == sorted(train)
    assert list(split.test) == sorted(test)
    theirs = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=7).split(y, y)
    ours = folds(customers, parts=5, repeats=2, seed=7)
    for (train, test), (own_train, own_test) in zip(theirs, ours, strict=True):
        assert (train == own_train).all()
        assert (test == own_test).all()


def test_customers_who_all_come_ten_times_are_split_as_if_they_came_once() -> None:
    y = (np.arange(50) % 4 == 0).astype(np.int64)
    once = hold_out(number_customers(np.arange(50), y), share=0.2, seed=3)
    ten_times = np.tile(np.arange(50), 10)
    customers = number_customers(ten_times + 1000, np.tile(y, 10))
    split = hold_out(customers, share=0.2, seed=3)
    assert set(ten_times[split.test]) == set(once.test)
    assert len(split.test) == 10 * len(once.test)


def test_one_customer_with_half_of_the_rows_is_not_what_is_measured_on() -> None:
    groups = np.r_[np.zeros(200, int), np.arange(1, 201)]
    y = (np.arange(400) % 3 == 0).astype(np.int64)
    customers = number_customers(groups, y)
    for seed in range(10):
        split = hold_out(customers, share=0.2, seed=seed)
        assert 0 not in groups[split.test]
        assert 30 < len(split.test) < 60


def test_the_latest_rows_are_held_out_where_there_is_a_time() -> None:
    months = np.random.default_rng(0).permutation(
        np.repeat(np.arange("2024-01", "2024-11", dtype="M8[M]"), 10)
    )
    customers = number_customers(np.arange(100), np.zeros(100, np.int64))
    split = hold_out_latest(customers, months, share=0.2, seed=0)
    assert split.since == "2024-09"
    assert set(months[split.test].astype(str)) == {"2024-09", "2024-10"}
    assert max(months[split.train]) < min(months[split.test])
    assert (len(split.train), len(split.test), split.left_out) == (80, 20, 0)


def test_a_customer_before_and_after_falls_to_one_side_and_the_rest_is_left_out() -> None:
    # A panel: 60 customers, each in ten months.
    groups, months = np.repeat(np.arange(60), 10), np.tile(np.arange(10), 60)
    customers = number_customers(groups, np.zeros(600, np.int64))
    split = hold_out_latest(customers, months, share=0.2, seed=0)
    assert not _meet(customers, split.train, split.test)
    assert set(months[split.train]) == set(range(8))
    assert set(months[split.test]) == {8, 9}
    people = {len(set(groups[rows])) for rows in (split.train, split.test)}
    assert min(people) > 15
    assert sum(len(set(groups[rows])) for rows in (split.train, split.test)) == 60
    assert split.left_out == 600 - len(split.train) - len(split.test)


def test_most_rows_on_one_early_day_are_trained_on() -> None:
    days = np.r_[np.zeros(90, int), np.arange(1, 11)]
    split = hold_out_latest(
        number_customers(np.arange(100), np.zeros(100, np.int64)), days, share=0.2, seed=0
    )
    assert (len(split.train), len(split.test), split.since) == (90, 10, "1")


def test_a_time_that_never_changes_cannot_split() -> None:
    customers = number_customers(np.arange(10), np.zeros(10, np.int64))
    with pytest.raises(DataError, match="the same time"):
        hold_out_latest(customers, np.full(10, 2024), share=0.2, seed=0)


def test_equal_rows_are_one_customer_where_nobody_says_otherwise(small: Dataset) -> None:
    twice = replace(rows_of(small, np.arange(30)), X=np.tile(small.X[:15], (2, 1)))
    customers = customers_of(replace(twice, groups=None))
    assert customers.count == 15
    assert list(customers.of_row[:15]) == list(customers.of_row[15:]) == list(range(15))


def test_the_customers_of_the_table_count_more_than_equal_rows(small: Dataset) -> None:
    alike = replace(rows_of(small, np.arange(4)), X=np.tile(small.X[:1], (4, 1)))
    assert customers_of(replace(alike, groups=np.array([7, 7, 3, 5]))).count == 3


def test_who_both_left_and_stayed_is_named(small: Dataset) -> None:
    rows = np.array([0, 1, 2, 0, 1])
    table = rows_of(small, rows, groups=None)
    conflict = replace(table, y=np.array([0, 0, 1, 1, 0]))
    said = repeats(conflict, customers_of(conflict))
    assert said[0] == (
        "5 rows are taken for 3 customers: equal rows are kept on one side of every split. "
        "A column customerID tells customers apart."
    )
    assert said[1:] == ["1 of them is said to have left and to have stayed, in rows 1, 4."]


def test_only_the_first_of_many_conflicts_are_named(small: Dataset) -> None:
    rows = np.tile(np.arange(10), 5)
    table = replace(rows_of(small, rows, groups=None), y=np.repeat([0, 1, 0, 1, 0], 10).astype(int))
    said = repeats(table, customers_of(table))[-1]
    assert said == (
        "10 of them are said to have left and to have stayed, in rows 1, 11, 21 and 2 more; "
        "2, 12, 22 and 2 more; 3, 13, 23 and 2 more and 7 more."
    )


def test_nothing_is_said_of_customers_with_a_row_each(small: Dataset) -> None:
    table = rows_of(small, np.arange(20))
    assert repeats(table, customers_of(table)) == []


def test_equal_rows_of_different_customers_are_counted_across_the_split(small: Dataset) -> None:
    X = small.X[[0, 1, 2, 0, 0, 5]]
    split = Split(np.array([0, 1, 2]), np.array([3, 4, 5]))
    assert identical_rows(X, split) == 2
