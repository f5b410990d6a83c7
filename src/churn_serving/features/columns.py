"""The columns of the feature matrix, derived from the schema; training and serving share them.

A number or a flag is one column, as it is. A category is one column for each of its values: the
column of the customer's value is 1, the others are 0. The columns stand in the order of the fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

from churn_serving.schema import Customer

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = [
    "CATEGORIES",
    "COLUMN_NAMES",
    "CONTRACT_TYPES",
    "FEATURE_NAMES",
    "PAYMENT_METHODS",
    "FloatArray",
    "bounds_of",
    "categories_of",
    "column_names_of",
]

FloatArray: TypeAlias = NDArray[np.float64]


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
