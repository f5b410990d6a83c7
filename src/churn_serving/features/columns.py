"""The columns of the feature matrix, made of the fields; training, serving and bulk share them.

A number or a flag is one column, as it is. A category is one column for each of its values: the
column of the customer's value is 1, the others are 0. The columns stand in the order of the fields.

Whole tables are checked here by the same rules as a single ``Customer``, a column at a time.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

from churn_serving.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import BaseModel

    from churn_serving.fields import Field

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
    "first_reasons",
    "matrix_of",
    "refused_rows",
]

FloatArray: TypeAlias = NDArray[np.float64]

FieldArrays: TypeAlias = "Mapping[str, NDArray[Any]]"
"""Every field as a column: a number or a flag in any type of numbers (NaN, or a negative flag:
none), a category as the place of its value in ``CATEGORIES``, as int8 (negative: none of them)."""


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


FEATURE_NAMES: Final = tuple(FIELDS)
"""The fields of a customer."""

CATEGORIES: Final = {name: field.values for name, field in FIELDS.items() if field.values}
"""The fields that are categories, each with its values."""

COLUMN_NAMES: Final = tuple(
    column
    for name, field in FIELDS.items()
    for column in ([f"{name}={value}" for value in field.values] or [name])
)
"""The columns of the feature matrix."""

CONTRACT_TYPES: Final = CATEGORIES["contract_type"]
PAYMENT_METHODS: Final = CATEGORIES["payment_method"]


class Refused(NamedTuple):
    """The rows of a table that break one rule.

    Attributes:
        field: The field, or the table's column that was to make it.
        rows: Their places, ascending.
        expected: What the rule asks for.
    """

    field: str
    rows: NDArray[np.intp]
    expected: str


def refused_rows(
    fields: FieldArrays, unread: Mapping[str, Sequence[Refused]] = MappingProxyType({})
) -> Iterator[Refused]:
    """Find the rows that ``Customer`` would refuse: each broken rule once, in the fields' order.

    Numbers are judged as numbers: 2.0 is a whole one. Held equal to the schema by a test.

    Args:
        fields: The table.
        unread: For a field, cells that could not be read: they are told before its rules.
    """
    for name, field in FIELDS.items():
        values = fields[name]
        if name not in unread and _all_fit(name, fields):
            continue
        yield from unread.get(name, ())
        for kept, expected in _rules(name, field, values, fields):
            if not kept.all():
                yield Refused(name, np.flatnonzero(~kept), expected)


def first_reasons(refused: Sequence[Refused], rows: int) -> NDArray[np.int16]:
    """Return for each row the place of the first rule that it breaks; -1 for a good one."""
    first = np.full(rows, -1, np.int16)
    for place in range(len(refused) - 1, -1, -1):
        first[refused[place].rows] = place
    return first


def matrix_of(fields: FieldArrays, order: Literal["C", "F"] = "C") -> FloatArray:
    """Return the feature matrix, shape ``(n, len(COLUMN_NAMES))``, of a table without bad rows.

    Args:
        fields: The table.
        order: In memory. Column by column (F) is made and scored quicker.
    """
    matrix = np.empty((len(fields[FEATURE_NAMES[0]]), len(COLUMN_NAMES)), order=order)
    column = 0
    for name in FEATURE_NAMES:
        width = len(CATEGORIES.get(name, (name,)))
        for place in range(width):
            values = fields[name]
            matrix[:, column + place] = values == place if name in CATEGORIES else values
        column += width
    return matrix


def _all_fit(name: str, fields: FieldArrays) -> bool:
    """Say whether every row keeps the rules of a field: most columns do, and that is quick to see.

    NaN is neither the smallest nor the largest of anything, so a column that holds one fits not.
    """
    field, values = FIELDS[name], fields[name]
    if not len(values):
        return True
    low, high = (0, len(field.values) - 1) if field.values else (field.low, field.high)
    if not (low <= values.min() and values.max() <= high):
        return False
    if name == "total_charges":
        return bool((values >= fields["monthly_charges"]).all())
    whole = field.kind in {"whole", "flag"} and values.dtype.kind == "f"
    return not whole or bool((values == np.floor(values)).all())


def _rules(
    name: str, field: Field, values: NDArray[Any], fields: FieldArrays
) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Return for each rule of a field which rows keep it, and what it asks for."""
    if field.values:
        choices = ", ".join(f"'{value}'" for value in field.values)
        yield (values >= 0) & (values < len(field.values)), f"one of {choices}"
        return
    if field.kind == "flag":
        yield (values == 0) | (values == 1), "true or false"
        return
    low, high = field.low, field.high
    finite = np.isfinite(values)
    # Where it is no number at all, that is the one thing to say about it.
    yield finite, "a finite number"
    yield ~(values < low) | ~finite, f"greater than or equal to {low}"
    yield ~(values > high) | ~finite, f"less than or equal to {high}"
    if field.kind == "whole":
        yield (values == np.floor(values)) | ~finite, "a whole number"
    if name == "total_charges":
        # A month that is refused itself is no measure of the total.
        month, known = fields["monthly_charges"], FIELDS["monthly_charges"]
        fits = (month >= known.low) & (month <= known.high) & finite & (values >= low)
        yield ~(fits & (values < month)), "greater than or equal to monthly_charges"
