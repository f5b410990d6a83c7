"""The columns of the feature matrix, derived from the schema; training and serving share them.

A number or a flag is one column, as it is. A category is one column for each of its values: the
column of the customer's value is 1, the others are 0. The columns stand in the order of the fields.

Whole tables are checked here by the same rules as a single ``Customer``, a column at a time.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

__all__ = [
    "CATEGORIES",
    "COLUMN_NAMES",
    "CONTRACT_TYPES",
    "FEATURE_NAMES",
    "PAYMENT_METHODS",
    "FieldArrays",
    "FloatArray",
    "Refused",
    "bounds_of",
    "categories_of",
    "column_names_of",
    "matrix_of",
    "refused_rows",
]

FloatArray: TypeAlias = NDArray[np.float64]

FieldArrays: TypeAlias = "Mapping[str, NDArray[np.float64] | NDArray[np.int8]]"
"""Every field as a column: a number or a flag as float64 (NaN: none), a category as the place of
its value in ``CATEGORIES``, as int8 (negative: none of them)."""


def categories_of(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Return the values of each field that is a category."""
    return {
        name: get_args(field.annotation)
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal
    }


def bounds_of(model: type[BaseModel]) -> dict[str, tuple[float, float]]:
    """Return the smallest and the largest value of each field that is a number."""
    properties: dict[str, dict[str, float]] = model.model_json_schema()["properties"]
    return {
        name: (properties[name]["minimum"], properties[name]["maximum"])
        for name, field in model.model_fields.items()
        if field.annotation in {int, float}
    }


def column_names_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of the columns that the fields become.

    Raises:
        TypeError: A field is no number, flag or category: the model would never see it.
    """
    names: list[str] = []
    categories = categories_of(model)
    for name, field in model.model_fields.items():
        if name in categories:
            names += [f"{name}={value}" for value in categories[name]]
        elif field.annotation in {int, float, bool}:
            names.append(name)
        else:
            raise TypeError(f"No rule makes columns of the field '{name}': {field.annotation}.")
    return tuple(names)


FEATURE_NAMES: Final = tuple(Customer.model_fields)
"""The fields of a customer."""

CATEGORIES: Final = categories_of(Customer)
"""The fields that are categories, each with its values."""

COLUMN_NAMES: Final = column_names_of(Customer)
"""The columns of the feature matrix."""

CONTRACT_TYPES: Final = CATEGORIES["contract_type"]
PAYMENT_METHODS: Final = CATEGORIES["payment_method"]


class Refused(NamedTuple):
    """The rows of a table that break one rule of the schema."""

    field: str
    rows: NDArray[np.intp]
    expected: str


def refused_rows(fields: FieldArrays) -> Iterator[Refused]:
    """Find the rows that ``Customer`` would refuse: each broken rule once, in the fields' order.

    Numbers are judged as numbers: 2.0 is a whole one. Held equal to the schema by a test.
    """
    for name, field in Customer.model_fields.items():
        values = fields[name]
        if name in CATEGORIES:
            choices = ", ".join(f"'{value}'" for value in CATEGORIES[name])
            rules = [((values >= 0) & (values < len(CATEGORIES[name])), f"one of {choices}")]
        elif field.annotation is bool:
            rules = [((values == 0) | (values == 1), "true or false")]
        else:
            low, high = _bounds()[name]
            finite = np.isfinite(values)
            # Where it is no number at all, that is the one thing to say about it.
            rules = [
                (finite, "a finite number"),
                (~(values < low) | ~finite, f"greater than or equal to {low}"),
                (~(values > high) | ~finite, f"less than or equal to {high}"),
            ]
            if field.annotation is int:
                rules.append(((values == np.floor(values)) | ~finite, "a whole number"))
            if name == "total_charges":
                # A month that is refused itself is no measure of the total.
                least = fields["monthly_charges"]
                lowest, highest = _bounds()["monthly_charges"]
                known = (least >= lowest) & (least <= highest) & finite & (values >= low)
                expected = "greater than or equal to monthly_charges"
                rules.append((~(known & (values < least)), expected))
        for kept, expected in rules:
            if not kept.all():
                yield Refused(name, np.flatnonzero(~kept), expected)


def matrix_of(fields: FieldArrays) -> FloatArray:
    """Return the feature matrix, shape ``(n, len(COLUMN_NAMES))``, of a table without bad rows."""
    matrix = np.empty((len(fields[FEATURE_NAMES[0]]), len(COLUMN_NAMES)))
    column = 0
    for name in FEATURE_NAMES:
        width = len(CATEGORIES.get(name, (name,)))
        for place in range(width):
            values = fields[name]
            matrix[:, column + place] = values == place if name in CATEGORIES else values
        column += width
    return matrix


@cache
def _bounds() -> dict[str, tuple[float, float]]:
    """Read the bounds once, and only where a table is checked: serving starts without them."""
    return bounds_of(Customer)
