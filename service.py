"""The BentoML services: wire the package into BentoML's runtime, and compute nothing themselves.

``ChurnService`` is what ``bentoml serve`` runs. With ``CHURN_TOPOLOGY=split`` the model runs in
``ChurnRunner``, a service of its own that can be scaled apart.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from typing import Any

import bentoml
import numpy as np
from numpy.typing import NDArray
from starlette.types import ASGIApp

from churn_serving import __version__
from churn_serving.artifact import find_model, load_artifact, version_warning
from churn_serving.batching import BatchingRunner, Runner, make_runner
from churn_serving.errors import ChurnServingError
from churn_serving.http import endpoints
from churn_serving.http.access_log import access_logged
from churn_serving.http.docs import docs_app
from churn_serving.http.fast_lane import FastLane
from churn_serving.http.native_lane import NativeLane, reported
from churn_serving.http.observability import observability_app
from churn_serving.http.state import ServiceState
from churn_serving.http.tracing import traced
from churn_serving.metrics import Metrics
from churn_serving.prediction import Predictor
from churn_serving.schema import (
    MAX_BATCH_ITEMS,
    BatchPrediction,
    Customer,
    CustomerBatch,
    Prediction,
    PredictionV1,
)
from churn_serving.settings import ENV_PREFIX, available_cpus, load_settings

logger = logging.getLogger("churn_serving")

# BentoML sets the root logger to WARNING.
logger.setLevel(logging.INFO)
# uvicorn formats a line for each request even where the level then drops it. Without a handler to
# reach, it does not: 7 of 54 us a request.
logging.getLogger("uvicorn.access").propagate = False

# The model is named in bentofile.yaml and looked up here: with a BentoModel attribute, a built
# Bento would look for the latest model again each time it is served.
try:
    SETTINGS = load_settings()
    MODEL = find_model(SETTINGS.model_tag)
    # A worker that is started again must not take a newer "latest" than its neighbours.
    os.environ[f"{ENV_PREFIX}MODEL_TAG"] = MODEL.tag
except ChurnServingError as error:
    # BentoML shows its own exceptions as one line, and others as a traceback.
    raise bentoml.exceptions.BentoMLException(str(error)) from None

SPLIT = SETTINGS.topology == "split"
METRICS = Metrics(model_version=MODEL.version)
STATE = ServiceState(METRICS)

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
    from churn_serving.scoring import make_scorer  # noqa: PLC0415

    if warning := version_warning(MODEL):
        logger.warning(warning)
    artifact = load_artifact(MODEL.tag)
    return make_scorer(artifact.estimator, artifact.scaler)


def settle_garbage() -> None:
    """Spare every later collection from looking at what was loaded, which lives to the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@bentoml.service(workers=SETTINGS.runner_workers, **COMMON)
class ChurnRunner:
    """The batchable runner as a service of its own, for the split topology."""

    def __init__(self) -> None:
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
        """Return BentoML's application behind the lanes of ``churn_serving.http``."""
        app: ASGIApp = NativeLane(super().to_asgi(is_main), state=STATE, settings=SETTINGS)
        if SETTINGS.fast_lane:
            app = FastLane(app, state=STATE, settings=SETTINGS)
        if SETTINGS.access_log:
            app = access_logged(app)
        return traced(app) if SETTINGS.tracing else app


@bentoml.service(service_class=ContractService, workers=SETTINGS.workers, **COMMON)
class ChurnService:
    """Predicts which telecom customers are about to leave."""

    if SPLIT:
        runner = bentoml.depends(ChurnRunner)

    def __init__(self) -> None:
        threshold = SETTINGS.decision_threshold
        self.predictor = Predictor(
            self._remote_runner() if SPLIT else self._embedded_runner(),
            model_tag=MODEL.tag,
            threshold=MODEL.threshold if threshold is None else threshold,
            metrics=METRICS,
        )

    def _embedded_runner(self) -> Runner:
        return make_runner(
            load_scorer(),
            max_batch_size=SETTINGS.max_batch_size,
            queue_size=SETTINGS.queue_size,
            timeout=SETTINGS.request_timeout_seconds,
            on_batch=METRICS.scored,
        )

    def _remote_runner(self) -> Runner:
        async def score(X: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(await self.runner.to_async.score(X))

        return BatchingRunner(
            score,
            max_batch_size=SETTINGS.max_batch_size,
            queue_size=SETTINGS.queue_size,
            timeout=SETTINGS.request_timeout_seconds,
            on_batch=METRICS.scored,
        )

    @bentoml.on_startup
    async def start(self) -> None:
        """Let requests in."""
        self.flushing = asyncio.create_task(METRICS.flush_regularly())
        STATE.predictor = self.predictor
        settle_garbage()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Let no more requests in, and flush what has been counted."""
        STATE.predictor = None
        self.flushing.cancel()
        await asyncio.wait([self.flushing])

    @bentoml.api(route=endpoints.PREDICT)
    async def predict(self, customer: Customer, /) -> Prediction:
        """Predict whether one customer will leave."""
        with reported():
            return await self.predictor.predict(customer)

    @bentoml.api(route=endpoints.PREDICT_V1)
    async def predict_v1(self, customer: Customer, /) -> PredictionV1:
        """Predict whether one customer will leave, with both probabilities and the time taken."""
        with reported():
            return await self.predictor.predict_v1(customer)

    @bentoml.api(route=endpoints.PREDICT_V1_BATCH)
    async def predict_batch(self, batch: CustomerBatch, /) -> BatchPrediction:
        """Predict for 1 to 100 customers with one call of the model."""
        with reported():
            return await self.predictor.predict_batch(batch)


ChurnService.mount_asgi_app(docs_app(version=__version__))
ChurnService.mount_asgi_app(observability_app(STATE))
