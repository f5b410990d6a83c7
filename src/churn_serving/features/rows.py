"""How a customer becomes one row of the feature matrix; used by training and by serving.

Scaling is the model's business (its scaler is registered with it), so a row holds plain units.
"""

from __future__ import annotations

from itertools import chain, islice, takewhile
from math import expm1, log1p
from operator import itemgetter
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from pydantic import ValidationError

from churn_serving.features.columns import (
    CATEGORIES,
    COLUMN_NAMES,
    FloatArray,
    bounds_of,
    categories_of,
)
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pydantic import BaseModel

__all__ = [
    "Row",
    "customer_row",
    "feature_matrix",
    "row_function_of",
    "verification_matrix",
]

Row: TypeAlias = tuple[float, ...]

_EDGES: Final = 1 / 8
"""How many of the made-up numbers are the smallest or the largest: mistakes are made there."""


class _AsItIs(dict[float, Row]):
    """What a number or a flag adds to the row: itself."""

    def __missing__(self, value: float) -> Row:
        return (value,)


def _one_hot(categories: tuple[str, ...]) -> dict[str, Row]:
    return {
        category: tuple(float(category == other) for other in categories) for category in categories
    }


def row_function_of(model: type[BaseModel]) -> Callable[[BaseModel], Row]:
    """Return the function that makes a row, one number for each column, of a customer.

    It runs for every request: one call takes all the fields before the first category (they are
    what they are), and a look-up adds each of the others.
    """
    names = tuple(model.model_fields)
    categories = categories_of(model)
    first = tuple(takewhile(lambda name: name not in categories, names))
    if len(first) == 1:  # an itemgetter of one name returns no tuple
        first = ()
    take: Callable[[dict[str, Any]], Row] = itemgetter(*first) if first else lambda _: ()
    tables = tuple(
        (name, _one_hot(categories[name]) if name in categories else _AsItIs())
        for name in names[len(first) :]
    )

    def row_of(customer: BaseModel) -> Row:
        values = customer.__dict__  # quicker than an attribute at a time
        row = take(values)
        for name, table in tables:
            row += table[values[name]]
        return row

    return row_of


customer_row: Final[Callable[[Customer], Row]] = row_function_of(Customer)
"""Return the customer as one row: ``len(COLUMN_NAMES)`` numbers, unscaled."""


def feature_matrix(rows: Iterable[Row]) -> FloatArray:
    """Return the rows as a float64 matrix of shape ``(n, len(COLUMN_NAMES))``."""
    return np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, len(COLUMN_NAMES))


def verification_matrix(rows: int = 512, seed: int = 0) -> FloatArray:
    """Return the feature matrix of made-up customers that cover the whole schema."""
    return feature_matrix(map(customer_row, islice(_made_up_customers(seed), rows)))


def _made_up_customers(seed: int) -> Iterator[Customer]:
    """Draw customers without end: each field from its own values, those that fit together stay."""
    random = Random(seed)  # noqa: S311 - customers, no secrets
    bounds = bounds_of(Customer)

    def draw(name: str, kind: object) -> object:
        if name in CATEGORIES:
            return random.choice(CATEGORIES[name])
        if kind is bool:
            return random.choice((False, True))
        low, high = bounds[name]
        if random.random() < _EDGES:
            return random.choice((low, high))
        if kind is int:
            return random.randint(int(low), int(high))
        # Every order of magnitude alike: a total goes to a million, but most are a few thousand.
        return min(low + expm1(random.uniform(0, log1p(high - low))), high)

    fields = {name: field.annotation for name, field in Customer.model_fields.items()}
    while True:
        try:
            yield Customer.model_validate({name: draw(name, kind) for name, kind in fields.items()})
        except ValidationError:
            continue
