"""Services as BentoML's documentation writes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import bentoml
import cloudpickle
import numpy as np
from pydantic import BaseModel

from bench.servers.rows import row


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


def load_scorer() -> Any:  # noqa: ANN401 - its class is pickled with it
    """Return this project's scorer."""
    return cloudpickle.loads(Path(os.environ["BENCH_SCORER"]).read_bytes())


@bentoml.service
class Churn:
    """Estimates how likely customers are to leave, in batches."""

    def __init__(self) -> None:
        self.scorer = load_scorer()

    @bentoml.api(batchable=True)
    def predict(self, customers: list[Customer]) -> list[float]:
        """Return the churn probabilities of the customers."""
        X = np.array([row(customer.model_dump()) for customer in customers])
        churns: list[float] = self.scorer.score(X).tolist()
        return churns


@bentoml.service
class ChurnAlone:
    """Predicts for each request by itself."""

    def __init__(self) -> None:
        self.scorer = load_scorer()

    @bentoml.api
    async def predict(self, customers: list[Customer]) -> list[float]:
        """Return the churn probability of the only customer."""
        (customer,) = customers
        return [self.scorer.score_row(row(customer.model_dump()))]
