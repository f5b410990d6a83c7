"""What the HTTP edge may know about the service behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from churn_serving.inference.resilience import OPEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from churn_serving.inference.prediction import Predictor
    from churn_serving.model.policy import Policy
    from churn_serving.telemetry.exposition import Exchange
    from churn_serving.telemetry.metrics import Metrics
    from churn_serving.telemetry.process import Process, Siblings

__all__ = ["BENTOML_PROBES", "LIVENESS", "PROBES", "READINESS", "Phase", "ServiceState"]

LIVENESS: Final = "/health"
READINESS: Final = "/health/ready"
BENTOML_PROBES: Final = ("/livez", "/readyz")
PROBES: Final = frozenset((LIVENESS, READINESS, *BENTOML_PROBES))
"""Where health is asked for: no traffic, and no secret."""

Phase: TypeAlias = Literal["loading", "ready", "draining", "failed", "degraded"]


@dataclass(slots=True)
class ServiceState:
    """Filled in by the service while it starts, read by the edge for each request.

    Attributes:
        metrics: Counts requests and errors.
        exchange: Has the metrics of the other workers.
        process: This worker's own figures.
        siblings: The other workers.
        model: What ``/metrics/model`` says of the registered model.
        policy: Decides whom to contact.
        card: The model's page for people, if it has one.
        breaker_fails_readiness: Whether an open circuit breaker makes the service unready.
        predictor: Answers requests; None while no model is loaded.
        answers: What it answered, in the warm-up, to the example of each route; for the
            documentation.
        failure: Why there will be none, in one sentence.
        runner_reachable: Whether the service that runs the model answers, if that is another one.
        draining: Whether the service has been told to end.
        in_flight: Requests being answered.
        model_load_seconds: What it took to load and verify the model.
    """

    metrics: Metrics
    exchange: Exchange
    process: Process
    siblings: Siblings
    model: Mapping[str, Any]
    policy: Policy
    card: bytes | None = None
    breaker_fails_readiness: bool = False
    predictor: Predictor | None = None
    answers: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None
    runner_reachable: bool = True
    draining: bool = False
    in_flight: int = 0
    model_load_seconds: float | None = None

    @property
    def phase(self) -> Phase:
        """What readiness says; only ``ready`` is."""
        if self.draining:
            return "draining"
        if self.predictor is None:
            return "failed" if self.failure else "loading"
        runner = self.predictor.runner
        if not self.runner_reachable or runner.hangs:
            return "degraded"
        # Once it would let a probe through it is ready again: somebody must be the probe.
        if self.breaker_fails_readiness and runner.breaker.state is OPEN and runner.breaker.refuses:
            return "degraded"
        return "ready"
