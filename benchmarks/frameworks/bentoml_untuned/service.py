"""The service, as the documentation of BentoML's adaptive batching writes one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import bentoml
import cloudpickle
import numpy as np
from pydantic import BaseModel

from benchmarks.frameworks.rows import row


class Customer(BaseModel):
    """One customer."""

    tenure_months: int
    monthly_charges: float
    total_charges: float
    num_products: int
    has_phone_service: bool
    has_internet: bool
    contract_type: Literal["month-to-month", "one-year", "two-year"]
    payment_method: Literal["electronic", "mailed", "bank", "credit"]


@bentoml.service
class Churn:
    """Predicts which customers are about to leave."""

    def __init__(self) -> None:
        self.scorer = cloudpickle.loads(Path(os.environ["CHURN_SCORER"]).read_bytes())

    @bentoml.api(batchable=True)
    def predict(self, customers: list[Customer]) -> list[float]:
        """Return the churn probabilities of the customers."""
        X = np.array([row(customer.model_dump()) for customer in customers])
        churns: list[float] = self.scorer.score(X).tolist()
        return churns
