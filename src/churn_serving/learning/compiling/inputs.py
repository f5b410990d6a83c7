"""What an estimator sees of a customer, each column as a function of the row of features.

An estimator may have been trained on the matrix of features, on a table of some of its columns, or
on a table of a customer's fields. Whatever scalers and encoders come first, each column that
reaches the classifier is one of two things: a number of the row behind increasing functions
(``Numeric``), or a value for each of a few cases (``Cases``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pandas as pd

from churn_serving.errors import UnsupportedEstimatorError
from churn_serving.features.columns import (
    CATEGORIES,
    COLUMN_NAMES,
    FEATURE_NAMES,
    FloatArray,
    bounds_of,
)
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "TAKEN",
    "Cases",
    "Column",
    "Estimator",
    "Frame",
    "Numeric",
    "Step",
    "domain_of",
    "names_of",
    "table_of",
    "unsupported",
]

TAKEN: Final = (
    "LogisticRegression, DecisionTreeClassifier, RandomForestClassifier, ExtraTreesClassifier, "
    "GradientBoostingClassifier and HistGradientBoostingClassifier, CalibratedClassifierCV around "
    "one of them, each also in a Pipeline with StandardScaler, MinMaxScaler or a ColumnTransformer "
    "of these, OneHotEncoder and OrdinalEncoder, and model files of XGBoost (.json, .ubj) and "
    "LightGBM (.txt)"
)
"""What can be written in the portable form, for people."""

Estimator: TypeAlias = Any
"""Any object of scikit-learn: a classifier, a transformer, a Pipeline of them."""

Step: TypeAlias = tuple[np.ufunc, float]
"""A function of two numbers and its second one: ``(np.subtract, mean)``."""

_INDEX: Final = {name: index for index, name in enumerate(COLUMN_NAMES)}
_KINDS: Final[dict[str, Any]] = {
    name: field.annotation
    for name, field in Customer.model_fields.items()
    if name not in CATEGORIES
}
_BOUNDS: Final = bounds_of(Customer)


def unsupported(problem: str) -> UnsupportedEstimatorError:
    """Return the error that says what is wrong and what is taken, in one sentence."""
    return UnsupportedEstimatorError(f"{problem}; taken are {TAKEN}.")


def domain_of(column: int) -> tuple[float, ...] | None:
    """Return all values a column of the row may have, ascending; None if there are too many."""
    kind = _KINDS.get(COLUMN_NAMES[column], bool)
    if kind is bool:
        return (0.0, 1.0)
    if kind is int:
        low, high = _BOUNDS[COLUMN_NAMES[column]]
        return tuple(float(value) for value in range(int(low), int(high) + 1))
    return None


@dataclass(frozen=True, slots=True)
class Numeric:
    """A number of the row, behind functions that never decrease.

    Attributes:
        column: Its number in the row.
        steps: What is done to it, in this order.
        kind: As what Python type the estimator sees it while there are no steps.
    """

    column: int
    steps: tuple[Step, ...] = ()
    kind: type = float

    def then(self, steps: Iterable[Step]) -> Numeric:
        """Return the column with more steps behind."""
        return replace(self, steps=(*self.steps, *steps), kind=float)

    def of(self, x: FloatArray) -> FloatArray:
        """Return what the estimator sees, given the column of the row."""
        return _applied(self.steps, x)

    def enumerated(self) -> Cases:
        """Return the column case by case.

        Raises:
            UnsupportedEstimatorError: It has no end of cases.
        """
        domain = domain_of(self.column)
        if domain is None:
            raise unsupported(
                f"'{COLUMN_NAMES[self.column]}' can be any number and was taken for a category"
            )
        values = self.of(np.array(domain)).tolist()
        return Cases(
            cases=tuple((self.column, value) for value in domain),
            values=tuple(map(self.kind, values)),
            other=np.nan,
        )


@dataclass(frozen=True, slots=True)
class Cases:
    """One value if ``row[column] == value``, another if ...

    Attributes:
        cases: The pairs of column and value; at most one of them holds for a row.
        values: What the estimator sees in each case.
        other: What it sees in any other; None if there is no other.
    """

    cases: tuple[tuple[int, float], ...]
    values: tuple[Any, ...]
    other: Any = None

    def then(self, steps: Iterable[Step]) -> Cases:
        """Return the column with steps behind."""
        values = _applied(steps, np.array(self.values, np.float64))
        other = self.other
        if other is not None:
            other = float(_applied(steps, np.array([other], np.float64))[0])
        return Cases(self.cases, tuple(values.tolist()), other)

    def enumerated(self) -> Cases:
        """Return the column, which is enumerated already."""
        return self


Column: TypeAlias = Numeric | Cases


def _applied(steps: Iterable[Step], x: FloatArray) -> FloatArray:
    # Bisection tries the largest numbers, too: infinity is what the estimator makes of them.
    with np.errstate(over="ignore"):
        for function, operand in steps:
            x = function(x, operand)
    return x


@dataclass(frozen=True, slots=True)
class Frame:
    """The columns that an estimator, or a step before it, sees.

    Attributes:
        columns: In its order.
        sparse: scikit-learn holds them as a sparse matrix, for which it calculates differently.
    """

    columns: tuple[Column, ...]
    sparse: bool = False

    @classmethod
    def named(cls, names: Sequence[str] | None) -> Frame:
        """Return the frame of these columns or fields; None: of the whole matrix of features."""
        if names is None:
            return cls(tuple(Numeric(index) for index in range(len(COLUMN_NAMES))))
        kinds = _kinds(names)
        return cls(
            tuple(
                Numeric(_INDEX[name], kind=kinds[name])
                if name in kinds
                else Cases(
                    cases=tuple((_INDEX[f"{name}={value}"], 1.0) for value in CATEGORIES[name]),
                    values=CATEGORIES[name],
                )
                for name in names
            )
        )

    def matrix(self, X: FloatArray) -> FloatArray:
        """Return what the estimator sees of these feature rows, as float64."""
        out = np.empty((len(X), len(self.columns)))
        for number, column in enumerate(self.columns):
            if isinstance(column, Numeric):
                out[:, number] = column.of(X[:, column.column])
                continue
            out[:, number] = np.nan if column.other is None else column.other
            for (index, value), seen in zip(column.cases, column.values, strict=True):
                out[X[:, index] == value, number] = seen
        return out


def _kinds(names: Sequence[str]) -> dict[str, Any]:
    """Return the type of each name that is one column of the row.

    Beside columns of a category (``contract_type=one-year``) it is the matrix of features with
    names, all float64; else it is a table in its natural types.
    """
    matrix = any(name in _INDEX and name not in _KINDS for name in names)
    return {name: float if matrix else _KINDS[name] for name in names if name in _INDEX}


def table_of(names: Sequence[str], X: FloatArray) -> pd.DataFrame:
    """Return the feature rows as a table of these columns or fields."""
    kinds = _kinds(names)
    table: dict[str, Any] = {}
    for name in names:
        if name in kinds:
            column = X[:, _INDEX[name]]
            table[name] = column if np.isnan(column).any() else column.astype(kinds[name])
        else:
            indices = [_INDEX[f"{name}={value}"] for value in CATEGORIES[name]]
            values = np.array(CATEGORIES[name], dtype=object)
            table[name] = pd.Series(values[X[:, indices].argmax(axis=1)], dtype=object)
    return pd.DataFrame(table)


def names_of(given: Sequence[Any] | None, count: int | None) -> tuple[str, ...] | None:
    """Return the checked names of what an estimator was trained on; None: the bare matrix.

    Args:
        given: The names it knows, if any.
        count: The number of columns it knows, if it does.

    Raises:
        UnsupportedEstimatorError: There is no telling what of a customer it expects.
    """
    if given is None:
        if count not in (None, len(COLUMN_NAMES)):
            raise UnsupportedEstimatorError(
                f"The estimator was trained on {count} columns without names, where the "
                f"{len(COLUMN_NAMES)} columns of the feature matrix are expected "
                f"({', '.join(COLUMN_NAMES)}), or a table with some of their names, or of a "
                f"customer's fields ({', '.join(FEATURE_NAMES)})."
            )
        return None
    names = tuple(str(name) for name in given)
    unknown = [name for name in names if name not in _INDEX and name not in FEATURE_NAMES]
    if unknown:
        raise UnsupportedEstimatorError(
            f"The estimator was trained on a column '{unknown[0][:80]}', where columns of the "
            f"feature matrix ({', '.join(COLUMN_NAMES)}) or a customer's fields "
            f"({', '.join(FEATURE_NAMES)}) are expected."
        )
    return names
