"""The BentoML services: wire the package into BentoML's runtime, and compute nothing themselves.

``ChurnService`` is what ``bentoml serve`` runs. With ``CHURN_TOPOLOGY=split`` the model runs in
``ChurnRunner``, a service of its own that can be scaled apart.
"""

from __future__ import annotations

import errno
import gc
import importlib.metadata
import logging
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import bentoml
import cloudpickle
import numpy as np
from bentoml.exceptions import BentoMLException, ServiceUnavailable
from numpy.typing import NDArray
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from churn_serving import __version__
from churn_serving.errors import ChurnServingError, RunnerUnreachableError
from churn_serving.http import endpoints
from churn_serving.http.body import BodyReader
from churn_serving.http.edge import Edge
from churn_serving.http.fast_lane import FastLane
from churn_serving.http.keys import guarded, key_digests
from churn_serving.http.native_lane import NativeLane, reported
from churn_serving.http.pages import paged
from churn_serving.http.tracing import traced
from churn_serving.inference.batching import BatchingRunner, Runner, make_runner
from churn_serving.inference.resilience import CircuitBreaker
from churn_serving.model.artifact import find_model, load_artifact, version_warning
from churn_serving.runtime.connections import running_server, stop_last
from churn_serving.runtime.state import ServiceState
from churn_serving.runtime.worker import Worker
from churn_serving.schema import (
    MAX_BATCH_ITEMS,
    BatchPrediction,
    Customer,
    CustomerBatch,
    Prediction,
    PredictionV1,
)
from churn_serving.settings import ENV_PREFIX, available_cpus, load_settings
from churn_serving.telemetry.exposition import Exchange
from churn_serving.telemetry.log import configure_logging
from churn_serving.telemetry.metrics import BUILD_INFO, MODEL_INFO, MODEL_MEMORY, Metrics
from churn_serving.telemetry.process import Process, Siblings

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger("churn_serving")

ALLOWED_HEADERS = (
    "Authorization",
    "Content-Type",
    "X-API-Key",
    "X-Request-ID",
    "X-Request-Timeout-Ms",
)

# The model is named in bentofile.yaml and looked up here: with a BentoModel attribute, a built
# Bento would look for the latest model again each time it is served.
try:
    SETTINGS = load_settings()
    KEY_DIGESTS = key_digests(SETTINGS)
    MODEL = find_model(SETTINGS.model_tag)
    # A worker that is started again must not take a newer "latest" than its neighbours.
    os.environ[f"{ENV_PREFIX}MODEL_TAG"] = MODEL.tag
except ChurnServingError as error:
    # BentoML shows its own exceptions as one line, and others as a traceback.
    raise BentoMLException(str(error)) from None

SPLIT = SETTINGS.topology == "split"
METRICS = Metrics(model_version=MODEL.version)
# BentoML makes this folder, empties it before each start, and names it to its workers.
METRICS_FOLDER = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
STATE = ServiceState(
    metrics=METRICS,
    exchange=Exchange(Path(METRICS_FOLDER) if METRICS_FOLDER else None),
    process=Process(),
    siblings=Siblings(expected=SETTINGS.workers + SPLIT * SETTINGS.runner_workers),
    model={
        "model_tag": MODEL.tag,
        "model_version": MODEL.version,
        "decision_threshold": MODEL.threshold,
        **MODEL.metadata,
    },
    breaker_fails_readiness=SETTINGS.breaker_fails_readiness,
)
WORKER = Worker(state=STATE, settings=SETTINGS)
METRICS.gauge(
    MODEL_INFO, 1, MODEL.tag.partition(":")[0], MODEL.version, MODEL.metadata["estimator"]
)
METRICS.gauge(
    BUILD_INFO,
    1,
    __version__,
    platform.python_version(),
    *map(importlib.metadata.version, ("bentoml", "scikit-learn")),
)

COMMON: dict[str, Any] = {
    # BentoML keeps each request's context until this long after it: keep it short, but longer than
    # our own deadline, which answers first.
    "traffic": {"timeout": SETTINGS.request_timeout_seconds + 1},
    # Metrics are kept at the edge; lines and spans are made there, if at all.
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
    "tracing": {"excluded_urls": [".*"]},
    # The processes together use the CPUs there are, not each of them all.
    "envs": [
        {"name": name, "value": str(max(1, available_cpus() // SETTINGS.workers))}
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    ],
}


def load_scorer() -> Any:  # noqa: ANN401 - the type is imported late, too
    """Load the registered model into a scorer."""
    # Imported late: the supervisor imports this file as well, and never loads a model.
    from churn_serving.model.scoring import make_scorer  # noqa: PLC0415

    if warning := version_warning(MODEL):
        logger.warning(warning)
    artifact = load_artifact(MODEL.tag)
    return make_scorer(artifact.estimator, artifact.scaler)


def runner_options() -> dict[str, Any]:
    """Return what a runner is told in either topology."""
    return {
        "max_batch_size": SETTINGS.max_batch_size,
        "queue_size": SETTINGS.queue_size,
        "timeout": SETTINGS.request_timeout_seconds,
        "breaker": CircuitBreaker(
            failure_rate=SETTINGS.breaker_failure_rate,
            window_seconds=SETTINGS.breaker_window_seconds,
            min_calls=SETTINGS.breaker_min_calls,
            open_seconds=SETTINGS.breaker_open_seconds,
        ),
        "metrics": METRICS,
    }


def embedded_runner() -> Runner:
    """Load the model into a runner in this process."""
    scorer = load_scorer()
    METRICS.gauge(MODEL_MEMORY, len(cloudpickle.dumps(scorer)), MODEL.version)
    return make_runner(scorer, **runner_options())


def settle_garbage() -> None:
    """Spare every later collection from looking at what was loaded, which lives to the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def replace_dead_workers_sooner() -> None:
    """Let BentoML's supervisor look after its workers twice a second, not every ten."""
    from circus.arbiter import Arbiter  # noqa: PLC0415 - only the supervisor needs it

    initialize = Arbiter.__init__

    def initialize_with_delay(self: Arbiter, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - circus's own
        initialize(self, *args, **{**kwargs, "check_delay": 0.5})

    Arbiter.__init__ = initialize_with_delay


def explain_a_taken_port() -> None:
    """Let BentoML's supervisor say in one sentence that its port is taken."""
    usual = sys.excepthook

    def explain(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            sys.stderr.write("Error: The port is taken; choose another one with --port.\n")
        else:
            usual(kind, error, traceback)

    sys.excepthook = explain


@bentoml.service(
    workers=SETTINGS.runner_workers,
    # By default BentoML's client closes its session after each 100 calls, under those in flight.
    runner_connection={"max_requests": sys.maxsize, "max_age": float("inf")},
    **COMMON,
)
class ChurnRunner:
    """The batchable runner as a service of its own, for the split topology."""

    def __init__(self) -> None:
        if (server := running_server()) is not None:
            configure_logging(SETTINGS)
            stop_last(server, SETTINGS)
        self.scorer = load_scorer()

    @bentoml.on_startup
    def start(self) -> None:
        """Put what was loaded out of the garbage collector's sight."""
        settle_garbage()

    # Each API worker sends one batch at a time, so this is all that can ever wait. Arrays are
    # annotated with the bare class because that is all BentoML knows.
    @bentoml.api(
        batchable=True,
        batch_dim=0,
        max_batch_size=SETTINGS.workers * max(SETTINGS.max_batch_size, MAX_BATCH_ITEMS),
    )
    def score(self, X: np.ndarray) -> np.ndarray:
        """Return the churn probabilities, shape ``(n,)``, of feature rows; both float64."""
        probabilities: NDArray[np.float64] = self.scorer.score(X)
        return probabilities


class ContractService(bentoml.Service[Any]):
    """A BentoML service whose application is wrapped in our HTTP edge.

    ``add_asgi_middleware`` would put the edge inside BentoML's own timeout, tracing and metrics
    middlewares, which cost more than a prediction.
    """

    def to_asgi(self, is_main: bool = True) -> ASGIApp:  # noqa: FBT001, FBT002 - BentoML's signature
        """Return BentoML's application behind the layers of ``churn_serving.http``."""
        bodies = BodyReader(
            max_bytes=SETTINGS.max_body_bytes, max_waiting=SETTINGS.max_waiting_bodies
        )
        app: ASGIApp = NativeLane(super().to_asgi(is_main), state=STATE, bodies=bodies)
        app = paged(
            app,
            state=STATE,
            refresh=WORKER.reporter.refresh,
            version=__version__,
            keys=bool(KEY_DIGESTS),
        )
        if SETTINGS.fast_lane:
            app = FastLane(app, state=STATE, bodies=bodies)
        if KEY_DIGESTS:
            app = guarded(
                app, digests=KEY_DIGESTS, state=STATE, metrics_public=SETTINGS.metrics_public
            )
        if SETTINGS.cors_origins:
            app = CORSMiddleware(
                app,
                allow_origins=SETTINGS.cors_origins,
                allow_credentials=SETTINGS.cors_credentials,
                allow_methods=("GET", "POST"),
                allow_headers=ALLOWED_HEADERS,
                expose_headers=("X-Request-ID", "Retry-After"),
            )
        app = Edge(app, state=STATE, settings=SETTINGS)
        return traced(app) if SETTINGS.tracing else app


@bentoml.service(service_class=ContractService, workers=SETTINGS.workers, **COMMON)
class ChurnService:
    """Predicts which telecom customers are about to leave."""

    if SPLIT:
        runner = bentoml.depends(ChurnRunner)

    @bentoml.on_deployment
    def prepare() -> None:
        """Set up the supervisor, which only starts the workers."""
        configure_logging(SETTINGS)
        replace_dead_workers_sooner()
        explain_a_taken_port()

    def __init__(self) -> None:
        WORKER.take_over()
        threshold = SETTINGS.decision_threshold
        WORKER.load(
            self._remote_runner if SPLIT else embedded_runner,
            model_tag=MODEL.tag,
            threshold=MODEL.threshold if threshold is None else threshold,
        )

    def _remote_runner(self) -> Runner:
        async def score(X: NDArray[np.float64]) -> NDArray[np.float64]:
            try:
                # By name: the methods are only there once start-up is over.
                return np.asarray(await self.runner.to_async.call("score", X))
            except (OSError, aiohttp.ClientError, ServiceUnavailable) as error:
                raise RunnerUnreachableError("The model does not answer.") from error

        return BatchingRunner(score, **runner_options())

    async def _runner_is_ready(self) -> bool:
        return bool(await self.runner.is_ready(timeout=1))

    @bentoml.on_startup
    async def start(self) -> None:
        """Let requests in."""
        await WORKER.start(self._runner_is_ready if SPLIT else None)
        settle_garbage()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Let no more requests in."""
        await WORKER.stop()

    async def __is_alive__(self) -> bool:
        """Answer ``/livez`` as ``/health`` is answered."""
        return not STATE.siblings.one_is_missing

    async def __is_ready__(self) -> bool:
        """Answer ``/readyz`` as ``/health/ready`` is answered."""
        return STATE.phase == "ready"

    @bentoml.api(route=endpoints.PREDICT)
    async def predict(self, customer: Customer, /) -> Prediction:
        """Predict whether one customer will leave."""
        with reported():
            return await WORKER.predictor.predict(customer)

    @bentoml.api(route=endpoints.PREDICT_V1)
    async def predict_v1(self, customer: Customer, /) -> PredictionV1:
        """Predict whether one customer will leave, with both probabilities and the time taken."""
        with reported():
            return await WORKER.predictor.predict_v1(customer)

    @bentoml.api(route=endpoints.PREDICT_V1_BATCH)
    async def predict_batch(self, batch: CustomerBatch, /) -> BatchPrediction:
        """Predict for 1 to 100 customers with one call of the model."""
        with reported():
            return await WORKER.predictor.predict_batch(batch)
