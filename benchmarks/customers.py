"""The customers that are asked about: a hundred different ones, each valid, always the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic_core import to_json

from churn_serving.features.columns import CONTRACT_TYPES, PAYMENT_METHODS
from churn_serving.http.api.v1 import CustomerBatch
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from pathlib import Path

COUNT: Final = 100
BATCHES: Final = 20

_SEED: Final = 7
_BASE_CHARGE: Final = 18.0
_INTERNET_CHARGE: Final = 30.0
_PRODUCT_CHARGE: Final = 8.0


def customers() -> list[Customer]:
    """Return customers as a telecom company has them: the charges follow from the products."""
    random = np.random.default_rng(_SEED)
    made = []
    for _ in range(COUNT):
        internet = bool(random.random() < 0.78)  # noqa: PLR2004 - the share in the Telco table
        phone = bool(random.random() < 0.9) or not internet  # noqa: PLR2004 - likewise
        products = int(phone) + int(internet) + int(random.integers(0, 7 if internet else 2))
        tenure = int(random.integers(1, 73))
        monthly = _BASE_CHARGE + _INTERNET_CHARGE * internet + _PRODUCT_CHARGE * (products - 1)
        monthly = round(monthly + random.normal(0, 1.5), 2)
        made.append(
            Customer.model_validate(
                {
                    "tenure_months": tenure,
                    "monthly_charges": monthly,
                    "total_charges": round(
                        monthly * max(1, tenure * random.uniform(0.95, 1.05)), 2
                    ),
                    "num_products": products,
                    "has_phone_service": phone,
                    "has_internet": internet,
                    "contract_type": CONTRACT_TYPES[int(random.choice(3, p=[0.55, 0.21, 0.24]))],
                    "payment_method": PAYMENT_METHODS[int(random.integers(0, 4))],
                }
            )
        )
    return made


def batches(items: list[Customer]) -> list[CustomerBatch]:
    """Return batches of all the customers, each in an order of its own."""
    return [
        CustomerBatch(items=items[start:] + items[:start])
        for start in range(0, COUNT, COUNT // BATCHES)
    ]


def write_bodies(path: Path, bodies: list[Customer] | list[CustomerBatch]) -> Path:
    """Write one JSON document a line, as ``wrk/post.lua`` reads them."""
    path.write_bytes(b"".join(to_json(body) + b"\n" for body in bodies))
    return path
