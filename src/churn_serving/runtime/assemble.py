"""Put one process together: its settings, its model, its state and its worker."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bentoml.exceptions import ServiceUnavailable

from churn_serving import __version__
from churn_serving.cpus import available_cpus
from churn_serving.errors import RunnerUnreachableError, SettingsError
from churn_serving.inference.batching import BatchingRunner, Runner, make_runner
from churn_serving.inference.explaining import make_explainer
from churn_serving.inference.resilience import CircuitBreaker
from churn_serving.model.artifact import Trust, find_model, load
from churn_serving.model.card import read_card
from churn_serving.revision import git_commit
from churn_serving.runtime.addresses import refuse_requests, require_unix_socket
from churn_serving.runtime.connections import running_server, stop_last
from churn_serving.runtime.parent import end_with_the_parent
from churn_serving.runtime.pins import pinned_policy
from churn_serving.runtime.state import ServiceState
from churn_serving.runtime.worker import Worker
from churn_serving.telemetry.exposition import Exchange
from churn_serving.telemetry.log import configure_logging
from churn_serving.telemetry.metrics import (
    BUILD_INFO,
    MODEL_INFO,
    MODEL_MEMORY,
    MODEL_PICKLED,
    Metrics,
)
from churn_serving.telemetry.process import Process, Siblings

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.inference.explaining import Explainer
    from churn_serving.model.artifact import Artifact, RegisteredModel
    from churn_serving.model.scoring import Scorer
    from churn_serving.settings import Settings

__all__ = ["Runtime", "assemble", "service_options", "settle_garbage"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The parts of one process.

    Attributes:
        settings: What the operator decided.
        trust: Whose models are served.
        model: What is served.
        state: What the HTTP edge knows.
        worker: Its life.
    """

    settings: Settings
    trust: Trust
    model: RegisteredModel
    state: ServiceState
    worker: Worker

    @property
    def is_split(self) -> bool:
        """Whether the model runs in a service of its own."""
        return self.settings.topology == "split"

    def load(self) -> Artifact:
        """Load the registered model.

        Raises:
            ModelError: It is gone, damaged, or not to be trusted.
        """
        return load(self.model)

    def embedded_runner(self) -> tuple[Runner, Explainer | None]:
        """Load the model into a runner in this process; return what explains it, too."""
        artifact = self.load()
        self.state.metrics.gauge(MODEL_MEMORY, artifact.size, self.model.version)
        return make_runner(artifact.scorer, **self._runner_options()), self._explainer(artifact)

    def remote_runner(
        self,
        service: Any,  # noqa: ANN401 - BentoML's proxy has no type
    ) -> tuple[Runner, Explainer | None]:
        """Return a runner that calls the service which runs the model, and what explains here."""
        # Imported late: the supervisor would have it for nothing, and it takes 6 MB.
        import aiohttp  # noqa: PLC0415

        async def score(X: FloatArray) -> FloatArray:
            try:
                # By name: the methods are only there once start-up is over.
                return np.asarray(await service.to_async.call("score", X))
            except (OSError, aiohttp.ClientError, ServiceUnavailable) as error:
                raise RunnerUnreachableError("The model does not answer.") from error

        runner = BatchingRunner(score, **self._runner_options())
        # scikit-learn is in the memory of the service that runs the model, once.
        return runner, None if self.model.is_pickled else self._explainer(self.load())

    def become_the_runner(self) -> Scorer:
        """Make this process the one that runs the model for others; return its scorer."""
        if (server := running_server()) is not None:
            configure_logging(self.settings)
            end_with_the_parent()
            try:
                require_unix_socket()
            except SettingsError as error:
                refuse_requests(server, error)
            else:
                stop_last(server, self.settings)
        return self.load().scorer

    def _explainer(self, artifact: Artifact) -> Explainer | None:
        return make_explainer(artifact.reasons, timeout=self.settings.request_timeout_seconds)

    def _runner_options(self) -> dict[str, Any]:
        return {
            "max_batch_size": self.settings.max_batch_size,
            "queue_size": self.settings.queue_size,
            "timeout": self.settings.request_timeout_seconds,
            "breaker": CircuitBreaker(),
            "metrics": self.state.metrics,
        }


def assemble(settings: Settings) -> Runtime:
    """Put a process together; its model is found, but nothing is loaded or started yet.

    Raises:
        ChurnServingError: The store has no such model, or none that is to be served; or there is no
            such policy.
    """
    trust = Trust.of(settings.model_public_key_file, allow_pickle=settings.allow_pickle)
    model = find_model(settings.model_tag, trust)
    metrics = Metrics(model_version=model.version)
    estimator = model.metadata.get("estimator", "unknown")
    metrics.gauge(MODEL_INFO, 1, model.tag.partition(":")[0], model.version, estimator)
    metrics.gauge(MODEL_PICKLED, float(model.is_pickled))
    metrics.gauge(
        BUILD_INFO,
        1,
        __version__,
        git_commit(),
        platform.python_version(),
        importlib.metadata.version("bentoml"),
        # Not installed where it only trained the model.
        model.metadata.get("library_versions", {}).get("scikit-learn", "unknown"),
    )
    # BentoML makes this folder, empties it before each start, and names it to its workers.
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    runners = settings.runner_workers if settings.topology == "split" else 0
    served = {
        "model_tag": model.tag,
        "model_version": model.version,
        "decision_threshold": model.threshold,
    }
    state = ServiceState(
        metrics=metrics,
        exchange=Exchange(Path(folder) if folder else None),
        process=Process(),
        siblings=Siblings(expected=settings.workers + runners),
        # What is served comes first, and its metadata cannot say otherwise.
        model={**served, **model.metadata, **served, "manifest_sha256": model.sha256},
        policy=pinned_policy(settings),
        card=read_card(model),
        breaker_fails_readiness=settings.breaker_fails_readiness,
    )
    worker = Worker(state=state, model=model, settings=settings)
    return Runtime(settings=settings, trust=trust, model=model, state=state, worker=worker)


def service_options(settings: Settings) -> dict[str, Any]:
    """Return what BentoML is told about each of the services."""
    threads = str(max(1, available_cpus() // settings.workers))
    return {
        # BentoML keeps each request's context until this long after it: keep it short, but longer
        # than our own deadline, which answers first.
        "traffic": {"timeout": settings.request_timeout_seconds + 1},
        # Metrics are kept at the edge; lines and spans are made there, if at all.
        "metrics": {"enabled": False},
        "logging": {"access": {"enabled": False}},
        "tracing": {"excluded_urls": [".*"]},
        # The processes together use the CPUs there are, not each of them all.
        "envs": [
            {"name": name, "value": threads} for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        ],
    }


def settle_garbage() -> None:
    """Spare every later collection from looking at what was loaded, which lives to the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
