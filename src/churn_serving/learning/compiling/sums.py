"""What an estimator adds up before its link, and how the portable form stores that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from churn_serving.features.columns import COLUMN_NAMES, FloatArray
from churn_serving.learning.compiling.inputs import Cases, domain_of, unsupported
from churn_serving.model.portable import Linear, Members, Trees

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from churn_serving.learning.compiling.inputs import Column
    from churn_serving.model.portable import Link

__all__ = ["LinearSum", "Member", "TreeSum", "linear_sum", "stored"]

_MAX_MEMBERS: Final = 64


@dataclass(frozen=True, slots=True)
class LinearSum:
    """``weights . x + bias`` over the unscaled row."""

    weights: FloatArray
    bias: float

    def affine(self, slope: float, intercept: float) -> LinearSum:
        """Return ``slope`` times the sum plus ``intercept``."""
        return LinearSum(slope * self.weights, slope * self.bias + intercept)


@dataclass(frozen=True, slots=True)
class TreeSum:
    """``baseline + scale * (the leaves reached)`` over the unscaled row."""

    arrays: dict[str, NDArray[Any]]
    baseline: float
    scale: float

    def affine(self, slope: float, intercept: float) -> TreeSum:
        """Return ``slope`` times the sum plus ``intercept``."""
        return replace(self, baseline=slope * self.baseline + intercept, scale=slope * self.scale)


@dataclass(frozen=True, slots=True)
class Member:
    """A sum and what makes a probability of it.

    Attributes:
        total: The sum.
        link: By its name.
        isotonic: The points of the curve, if the link is isotonic.
    """

    total: LinearSum | TreeSum
    link: Link
    isotonic: tuple[FloatArray, FloatArray] | None = None


def stored(
    members: Sequence[Member], precision: Literal["double", "single"] = "double"
) -> tuple[Members, dict[str, NDArray[Any]]]:
    """Return what the manifest says of the mean of these members, and the arrays by their names.

    Args:
        members: Of the model.
        precision: In which the estimator itself adds up.

    Raises:
        UnsupportedEstimatorError: There are too many.
    """
    if len(members) > _MAX_MEMBERS:
        raise unsupported(f"A mean of more than {_MAX_MEMBERS} calibrated models is not taken")
    parts: list[Linear | Trees] = []
    arrays: dict[str, NDArray[Any]] = {}
    for number, member in enumerate(members):
        total = member.total
        if isinstance(total, LinearSum):
            parts.append(Linear(bias=total.bias, link=member.link))
            own: dict[str, NDArray[Any]] = {"weights": total.weights}
        else:
            parts.append(Trees(baseline=total.baseline, scale=total.scale, link=member.link))
            own = dict(total.arrays)
        if member.isotonic is not None:
            own["isotonic_x"], own["isotonic_y"] = member.isotonic
        arrays |= {f"{number}/{name}": np.ascontiguousarray(array) for name, array in own.items()}
    return Members(members=tuple(parts), precision=precision), arrays


def linear_sum(
    coefficients: FloatArray, intercept: float, columns: tuple[Column, ...]
) -> LinearSum:
    """Fold what comes before a linear model into its weights.

    Raises:
        UnsupportedEstimatorError: A column is no linear function of the row.
    """
    weights = np.zeros(len(COLUMN_NAMES))
    bias = intercept
    for coefficient, column in zip(coefficients.tolist(), columns, strict=True):
        slopes, constant = (
            _linear_in_cases(column) if isinstance(column, Cases) else _linear(column)
        )
        for index, slope in slopes.items():
            weights[index] += coefficient * slope
        bias += coefficient * constant
    return LinearSum(weights, bias)


def _linear(column: Any) -> tuple[dict[int, float], float]:  # noqa: ANN401 - a Numeric
    slope, constant = 1.0, 0.0
    for function, operand in column.steps:
        if function is np.subtract:
            constant -= operand
        elif function is np.add:
            constant += operand
        elif function in (np.multiply, np.divide):
            slope, constant = float(function(slope, operand)), float(function(constant, operand))
        else:  # clipped
            return _linear_in_cases(column.enumerated())
    return {column.column: slope}, constant


def _linear_in_cases(cases: Cases) -> tuple[dict[int, float], float]:
    """Return the slope of each column of the row that matters, and a constant."""
    seen = np.array(cases.values, np.float64)
    if cases.other is None:  # a category: exactly one of its columns is 1
        return {
            index: value for (index, _), value in zip(cases.cases, seen.tolist(), strict=True)
        }, 0.0
    column = cases.cases[0][0]
    x = np.array([value for _, value in cases.cases])
    domain = domain_of(column)
    if domain is not None and set(domain) <= set(x.tolist()):
        slope = float((seen[-1] - seen[0]) / (x[-1] - x[0]))
        constant = float(seen[0] - slope * x[0])
        if np.allclose(slope * x + constant, seen, rtol=1e-14, atol=1e-14):
            return {column: slope}, constant
    raise unsupported(
        f"LogisticRegression on '{COLUMN_NAMES[column]}' as categories, or clipped, is not linear"
    )
