"""Splits that keep all rows of a customer on one side: no model is tested on whom it knows.

Where all customers have as many rows, the splits are scikit-learn's, and anybody can make them
again. Where one has more than another, its ``StratifiedGroupKFold`` would do, but asks every fold
about every customer: a second for 7,043 customers, minutes for a million. Here customers are dealt
out like cards, first those who stayed, then those of whom both is said, then those who left, the
largest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split

from churn_serving.errors import DataError

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Dataset, Labels

__all__ = [
    "Customers",
    "Indices",
    "Split",
    "customers_of",
    "folds",
    "hold_out",
    "hold_out_latest",
    "identical_rows",
    "number_customers",
    "repeats",
]

Indices: TypeAlias = NDArray[np.intp]

_SHOWN: Final = 3
"""How many a notice names."""


@dataclass(frozen=True, slots=True)
class Customers:
    """Which rows are the same customer's.

    Attributes:
        of_row: The number of each row's customer, from 0 on without a gap; shape ``(n,)``.
        left: Of each customer: has a row that says left.
        stayed: Of each customer: has a row that says stayed.
    """

    of_row: Indices
    left: NDArray[np.bool_]
    stayed: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """The number of customers."""
        return len(self.left)

    @property
    def repeated_rows(self) -> int:
        """The number of rows beyond the first of each customer."""
        return len(self.of_row) - self.count

    @property
    def alike(self) -> bool:
        """Whether each has as many rows as any other, and one label."""
        size = np.bincount(self.of_row)
        return bool(size.min() == size.max()) and not (self.left & self.stayed).any()

    @property
    def conflicting(self) -> Indices:
        """The numbers of the customers of whom both is said."""
        return np.flatnonzero(self.left & self.stayed)


@dataclass(frozen=True, slots=True)
class Split:
    """The rows to train on and the rows to measure on.

    Attributes:
        train: Ascending row numbers.
        test: Ascending row numbers; none of them is a customer of ``train``.
        left_out: The number of rows in neither.
        since: The first point of time of ``test``, as text, if the table was split by time.
    """

    train: Indices
    test: Indices
    left_out: int = 0
    since: str = ""


def customers_of(dataset: Dataset) -> Customers:
    """Tell by the table's customers, or else by identical rows, which rows belong together."""
    groups = dataset.groups
    if groups is None:
        groups = np.unique(dataset.X, axis=0, return_inverse=True)[1]
    return number_customers(groups, dataset.y)


def number_customers(groups: NDArray[Any], y: Labels) -> Customers:
    """Number the customers in the order of their first rows, whatever they are called."""
    _, first, of_row = np.unique(groups, return_index=True, return_inverse=True)
    of_row = np.argsort(np.argsort(first))[of_row.ravel()]
    left = np.bincount(of_row, weights=y)
    return Customers(of_row=of_row, left=left > 0, stayed=left < np.bincount(of_row))


def repeats(dataset: Dataset, customers: Customers) -> list[str]:
    """Say what a person should know of equal rows; of ids the table says it itself."""
    if not customers.repeated_rows or dataset.ids is not None:
        return []
    said = (
        f"{len(customers.of_row):,} rows are taken for {customers.count:,} customers: equal rows "
        "are kept on one side of every split. A column customerID tells customers apart."
    )
    notices = [said]
    both = customers.conflicting
    if len(both):
        shown = "; ".join(_rows_of(customers, each) for each in both[:_SHOWN])
        more = f" and {len(both) - _SHOWN:,} more" if len(both) > _SHOWN else ""
        notices.append(
            f"{len(both):,} of them {'are' if len(both) > 1 else 'is'} said to have left and to "
            f"have stayed, in rows {shown}{more}."
        )
    return notices


def _rows_of(customers: Customers, number: int) -> str:
    rows = np.flatnonzero(customers.of_row == number) + 1
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"{', '.join(str(row) for row in rows[:_SHOWN])}{more}"


def hold_out(customers: Customers, *, share: float, seed: int) -> Split:
    """Hold out about a share of the rows, with the labels in proportion."""
    if customers.alike:
        _, test = train_test_split(
            np.arange(customers.count), test_size=share, stratify=customers.left, random_state=seed
        )
        return Split(*_rows_in(customers, test))
    parts = round(1 / share)
    part_of_row = _deal(customers, parts, np.random.default_rng(seed))[customers.of_row]
    sizes = np.bincount(part_of_row, minlength=parts)
    # One customer may have half of the rows: the part with the nearest size is taken.
    part = int(np.argmin(np.abs(sizes - share * len(part_of_row))))
    return Split(np.flatnonzero(part_of_row != part), np.flatnonzero(part_of_row == part))


def hold_out_latest(customers: Customers, time: NDArray[Any], *, share: float, seed: int) -> Split:
    """Hold out the latest share of the rows.

    A customer with rows before and after falls to one side by lot; what he has on the other side is
    left out.

    Raises:
        DataError: All rows are of the same time.
    """
    ordered = np.sort(time)
    since = ordered[int((1 - share) * len(ordered))]
    if since == ordered[0]:
        later = ordered[ordered > since]
        if not len(later):
            raise DataError("All rows have the same time: they cannot be split by it.")
        since = later[0]
    late = time >= since
    early_of = np.bincount(customers.of_row, weights=~late) > 0
    late_of = np.bincount(customers.of_row, weights=late) > 0
    lot = np.random.default_rng(seed).random(customers.count) < 1 / 2
    measured = (late_of & (lot | ~early_of))[customers.of_row]
    train, test = np.flatnonzero(~late & ~measured), np.flatnonzero(late & measured)
    return Split(train, test, len(time) - len(train) - len(test), str(since))


def folds(
    customers: Customers, *, parts: int, repeats: int, seed: int
) -> list[tuple[Indices, Indices]]:
    """Return the training and the test rows of each fold of each repeat."""
    if customers.alike:
        splitter = RepeatedStratifiedKFold(n_splits=parts, n_repeats=repeats, random_state=seed)
        return [
            _rows_in(customers, test) for _, test in splitter.split(customers.left, customers.left)
        ]
    random = np.random.default_rng(seed)
    result = []
    for _ in range(repeats):
        part_of_row = _deal(customers, parts, random)[customers.of_row]
        result += [
            (np.flatnonzero(part_of_row != part), np.flatnonzero(part_of_row == part))
            for part in range(parts)
        ]
    return result


def _rows_in(customers: Customers, test: Indices) -> tuple[Indices, Indices]:
    """Return the rows of the other customers, and those of these."""
    chosen = np.isin(np.arange(customers.count), test)[customers.of_row]
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _deal(customers: Customers, parts: int, random: np.random.Generator) -> Indices:
    """Return the part of each customer.

    Any five neighbours go to five parts, so each part has all labels of which there are five
    customers; and since the largest come first, no part has more rows than another by more than
    one customer of each label has.
    """
    size = np.bincount(customers.of_row)
    # Whoever both left and stayed stands between the others: a neighbour of either.
    label = customers.left.astype(np.intp) + (customers.left & ~customers.stayed)
    order = np.lexsort((random.permutation(customers.count), -size, label))
    part = np.empty(customers.count, dtype=np.intp)
    part[order] = np.arange(customers.count) % parts
    return part


def identical_rows(X: FloatArray, split: Split) -> int:
    """Return how many measured rows equal one of the rows that are trained on."""
    trained = {X[row].tobytes() for row in split.train}
    return sum(X[row].tobytes() in trained for row in split.test)
