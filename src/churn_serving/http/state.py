"""What the HTTP edge may know about the service behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from churn_serving.metrics import Metrics
    from churn_serving.prediction import Predictor

__all__ = ["ServiceState"]


@dataclass(slots=True)
class ServiceState:
    """Filled in by the service while it starts, read by the edge for each request.

    Attributes:
        metrics: Counts requests and errors.
        predictor: Answers requests; None while no model is loaded.
    """

    metrics: Metrics
    predictor: Predictor | None = None
