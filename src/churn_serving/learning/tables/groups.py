"""Which rows of a table are the same customer: a split must not part them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray

__all__ = ["ids_with_both_labels", "same_customer"]

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


def same_customer(
    X: FloatArray,
    categories: Mapping[str, pd.Categorical[str]],
    ids: NDArray[np.object_] | None,
) -> NDArray[np.int64]:
    """Number the customers by their first row; rows of one customer have the same number.

    Rows are of one customer if their ids are the same. Rows without an id are if they are equal.
    """
    if ids is None:
        return _equal_rows(X, categories)
    numbers = pd.factorize(ids)[0].astype(np.int64)
    unknown = ids == ""
    if not unknown.any():
        return numbers
    numbers[unknown] = len(ids) + _equal_rows(
        X[unknown], {name: values[unknown] for name, values in categories.items()}
    )
    return pd.factorize(numbers)[0].astype(np.int64)


def ids_with_both_labels(
    groups: NDArray[np.int64], ids: NDArray[np.object_], y: NDArray[np.int64]
) -> list[str]:
    """Return the ids of customers of whom one row says that they left, and another that not."""
    rows = np.bincount(groups)
    left = np.bincount(groups, weights=y)
    both = (left > 0) & (left < rows)
    _, first = np.unique(groups, return_index=True)
    return [str(ids[row]) for row in first[both] if ids[row]]


def _equal_rows(X: FloatArray, categories: Mapping[str, pd.Categorical[str]]) -> NDArray[np.int64]:
    """Number the rows; equal ones alike."""
    mixed = np.zeros(len(X), np.uint64)
    with np.errstate(over="ignore"):
        for column in _columns(X, categories):
            mixed = (mixed ^ column) * _MIX
            mixed ^= mixed >> np.uint64(29)
    numbers = pd.factorize(mixed)[0].astype(np.int64)
    first = np.unique(numbers, return_index=True)[1][numbers]
    if all(np.array_equal(column, column[first]) for column in _columns(X, categories)):
        return numbers
    # Two different rows were mixed to the same one of 2^64 numbers: the slow way tells them apart.
    table = np.column_stack(list(_columns(X, categories)))
    return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _columns(
    X: FloatArray, categories: Mapping[str, pd.Categorical[str]]
) -> Iterator[NDArray[np.uint64]]:
    """Return each column as whole numbers that are the same where the values are."""
    for column in X.T:
        yield np.ascontiguousarray(column + 0.0).view(np.uint64)  # -0.0 is 0.0
    for values in categories.values():
        yield values.codes.astype(np.uint64)
