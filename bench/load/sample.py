"""The customers of the load test: ``python -m bench.load.sample`` makes their file anew.

They are rows of the public Telco table, taken from it at equal distances after it was sorted: so
they have the table's distribution, and are the same each time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bench.load import CUSTOMERS
from churn_serving.features.columns import (
    COLUMN_NAMES,
    CONTRACT_TYPES,
    FEATURE_NAMES,
    PAYMENT_METHODS,
)
from churn_serving.learning.dataset import load_dataset

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray

__all__ = ["SIZE", "sample", "text"]

SIZE: Final = 400

_SORTED_BY: Final = (
    *(name for name in COLUMN_NAMES if "=" in name),  # the categories
    *("has_internet", "has_phone_service"),
    *("tenure_months", "num_products", "monthly_charges", "total_charges"),
)


def sample() -> list[dict[str, Any]]:
    """Return the customers, as the service takes them.

    Raises:
        DataError: The public table is not installed.
    """
    X = load_dataset().X
    keys = [X[:, COLUMN_NAMES.index(name)] for name in _SORTED_BY]
    places = ((np.arange(SIZE) + 0.5) * len(X) / SIZE).astype(int)
    return [_customer(row) for row in X[np.lexsort(keys[::-1])[places]]]


def text(customers: list[dict[str, Any]]) -> str:
    """Return the content of the file: one JSON document a line."""
    return "".join(json.dumps(customer) + "\n" for customer in customers)


def _customer(row: FloatArray) -> dict[str, Any]:
    """Undo ``features.customer_row``."""
    tenure, monthly, total, products, phone, internet, *one_hot = row.tolist()
    contract = CONTRACT_TYPES[one_hot.index(1)]
    payment = PAYMENT_METHODS[one_hot[len(CONTRACT_TYPES) :].index(1)]
    values = (
        *(int(tenure), monthly, total, int(products)),
        *(bool(phone), bool(internet), contract, payment),
    )
    return dict(zip(FEATURE_NAMES, values, strict=True))


if __name__ == "__main__":
    CUSTOMERS.write_text(text(sample()), encoding="utf-8")
