"""A customer's JSON as a feature row, for servers whose environment has not this project in it.

Nothing is installed for it and nothing is validated: the least that such a server can do.
"""

from __future__ import annotations

from typing import Any

CONTRACT_TYPES = ("month-to-month", "one-year", "two-year")
PAYMENT_METHODS = ("electronic", "mailed", "bank", "credit")


def row(customer: dict[str, Any]) -> list[float]:
    """Return the 13 columns of the feature matrix; ``churn_serving.features`` has their order."""
    contract, payment = customer["contract_type"], customer["payment_method"]
    return [
        float(customer["tenure_months"]),
        float(customer["monthly_charges"]),
        float(customer["total_charges"]),
        float(customer["num_products"]),
        float(customer["has_phone_service"]),
        float(customer["has_internet"]),
        *[float(contract == value) for value in CONTRACT_TYPES],
        *[float(payment == value) for value in PAYMENT_METHODS],
    ]
