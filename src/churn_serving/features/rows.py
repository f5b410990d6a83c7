"""How a customer becomes one row of the feature matrix; used by training and by serving.

Numbers and flags are taken as they are, the two categories are one-hot encoded. Scaling is the
model's business (its scaler is registered with it), so a row holds plain units.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from churn_serving.features.columns import (
    COLUMN_NAMES,
    CONTRACT_TYPES,
    FEATURE_NAMES,
    PAYMENT_METHODS,
    FloatArray,
)
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Row",
    "customer_row",
    "feature_matrix",
    "verification_matrix",
]

Row: TypeAlias = tuple[float, ...]


def _one_hot(categories: tuple[str, ...]) -> dict[str, Row]:
    return {
        category: tuple(float(category == other) for other in categories) for category in categories
    }


_CONTRACT = _one_hot(CONTRACT_TYPES)
_PAYMENT = _one_hot(PAYMENT_METHODS)


def customer_row(customer: Customer) -> Row:
    """Return the customer as one row: ``len(COLUMN_NAMES)`` numbers, unscaled."""
    return (
        customer.tenure_months,
        customer.monthly_charges,
        customer.total_charges,
        customer.num_products,
        customer.has_phone_service,
        customer.has_internet,
        *_CONTRACT[customer.contract_type],
        *_PAYMENT[customer.payment_method],
    )


def feature_matrix(rows: Iterable[Row]) -> FloatArray:
    """Return the rows as a float64 matrix of shape ``(n, len(COLUMN_NAMES))``."""
    return np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, len(COLUMN_NAMES))


def verification_matrix(rows: int = 512, seed: int = 0) -> FloatArray:
    """Return the feature matrix of made-up customers that cover the whole schema."""
    random = np.random.default_rng(seed)
    monthly = random.uniform(0, 500, rows)
    columns = [
        random.integers(0, 121, rows),
        monthly,
        monthly + random.exponential(2000, rows),
        random.integers(1, 11, rows),
        random.integers(0, 2, rows).astype(bool),
        random.integers(0, 2, rows).astype(bool),
        random.choice(CONTRACT_TYPES, rows),
        random.choice(PAYMENT_METHODS, rows),
    ]
    return feature_matrix(
        customer_row(Customer(**dict(zip(FEATURE_NAMES, values, strict=True))))
        for values in zip(*(column.tolist() for column in columns), strict=True)
    )
