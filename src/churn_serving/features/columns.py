"""The columns of the feature matrix: their names and order; training and serving share them."""

from __future__ import annotations

from typing import Final, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from churn_serving.schema import ContractType, Customer, PaymentMethod

__all__ = [
    "COLUMN_NAMES",
    "CONTRACT_TYPES",
    "FEATURE_NAMES",
    "PAYMENT_METHODS",
    "FloatArray",
]

FloatArray: TypeAlias = NDArray[np.float64]

CONTRACT_TYPES: Final[tuple[str, ...]] = get_args(ContractType)
PAYMENT_METHODS: Final[tuple[str, ...]] = get_args(PaymentMethod)

FEATURE_NAMES: Final = tuple(Customer.model_fields)
"""The eight fields of a customer, in the order of the schema."""

COLUMN_NAMES: Final = (
    *FEATURE_NAMES[:6],
    *(f"contract_type={value}" for value in CONTRACT_TYPES),
    *(f"payment_method={value}" for value in PAYMENT_METHODS),
)
"""The columns of the feature matrix."""
