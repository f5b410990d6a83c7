"""What several tests put in the place of a part that is not what they test."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.inference.resilience import CircuitBreaker
from churn_serving.model.artifact import RegisteredModel
from churn_serving.model.policy import Policy
from churn_serving.model.portable import Linear, Manifest, Members
from churn_serving.runtime.state import ServiceState
from churn_serving.telemetry.exposition import Exchange
from churn_serving.telemetry.metrics import Family, Histogram, Metrics, Sample
from churn_serving.telemetry.process import Process, Siblings

__all__ = ["MODEL", "Clock", "circuit_breaker", "count_of", "sample_of", "service_state"]


MODEL: Final = RegisteredModel(
    manifest=Manifest(
        tag="churn:v1",
        threshold=0.5,
        columns=COLUMN_NAMES,
        files={},
        model=Members(members=(Linear(bias=0.0, link="logistic"),)),
        metadata={"estimator": "LogisticRegression"},
    ),
    folder=Path("nowhere"),
    sha256="0" * 64,
)
"""What the store would say of a model that is not there."""


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def circuit_breaker(**changes: Any) -> CircuitBreaker:
    """Return a breaker as the service has it, but for the changes."""
    return CircuitBreaker(**changes)


def service_state(**changes: Any) -> ServiceState:
    """Return the state of a service with one worker and no model, but for the changes."""
    defaults = {
        "metrics": Metrics(model_version="test"),
        "exchange": Exchange(None),
        "process": Process(),
        "siblings": Siblings(expected=1),
        "model": {},
        "policy": Policy(),
    }
    return ServiceState(**{**defaults, **changes})


def sample_of(metrics: Metrics, family: Family, *labels: str) -> Sample:
    """Return one of the figures that were counted."""
    for counted, names, sample in metrics:
        if counted is family and names == labels:
            return sample
    raise AssertionError(f"{family.name}{list(labels)} was not counted")


def count_of(metrics: Metrics, family: Family, *labels: str) -> int:
    """Return how many observations a histogram has, or how far a counter has come; 0 if neither."""
    for counted, names, sample in metrics:
        if counted is family and names == labels:
            return sum(sample.counts) if isinstance(sample, Histogram) else int(sample.value)
    return 0
