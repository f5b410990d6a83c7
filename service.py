"""The BentoML service: wires the package into BentoML's runtime, and computes nothing itself."""

from __future__ import annotations

import gc
import logging
from typing import Any

import bentoml
from starlette.types import ASGIApp

from churn_serving import __version__
from churn_serving.artifact import find_model, load_artifact, version_warning
from churn_serving.batching import make_runner
from churn_serving.errors import ChurnServingError
from churn_serving.http import endpoints
from churn_serving.http.docs import docs_app
from churn_serving.http.fast_lane import FastLane
from churn_serving.http.native_lane import NativeLane, reported
from churn_serving.http.state import ServiceState
from churn_serving.prediction import Predictor
from churn_serving.schema import BatchPrediction, Customer, CustomerBatch, Prediction, PredictionV1
from churn_serving.settings import load_settings

logger = logging.getLogger("churn_serving")

try:
    SETTINGS = load_settings()
    MODEL_TAG = find_model(SETTINGS.model_tag)
except ChurnServingError as error:
    # BentoML shows its own exceptions as one line, and others as a traceback.
    raise bentoml.exceptions.BentoMLException(str(error)) from None

STATE = ServiceState()


class ContractService(bentoml.Service[Any]):
    """A BentoML service whose application is wrapped in our HTTP edge.

    ``add_asgi_middleware`` would put the edge inside BentoML's timeout, tracing and metrics
    middlewares, which cost more than a prediction.
    """

    def to_asgi(self, is_main: bool = True) -> ASGIApp:  # noqa: FBT001, FBT002 - BentoML's signature
        """Return BentoML's application behind the fast and the native lane."""
        app: ASGIApp = NativeLane(super().to_asgi(is_main), state=STATE, settings=SETTINGS)
        return FastLane(app, state=STATE, settings=SETTINGS) if SETTINGS.fast_lane else app


@bentoml.service(
    service_class=ContractService,
    workers=SETTINGS.workers,
    # BentoML keeps each request's context until this long after it: keep it short, but longer than
    # our own deadline, which answers first.
    traffic={"timeout": SETTINGS.request_timeout_seconds + 1},
    logging={"access": {"enabled": SETTINGS.access_log}},
)
class ChurnService:
    """Predicts which telecom customers are about to leave."""

    model = bentoml.models.BentoModel(MODEL_TAG)

    def __init__(self) -> None:
        # Imported late: the supervisor imports this file too, and never loads a model.
        from churn_serving.scoring import make_scorer  # noqa: PLC0415

        artifact = load_artifact(MODEL_TAG)
        if warning := version_warning(artifact):
            logger.warning(warning)
        threshold = SETTINGS.decision_threshold
        self.predictor = Predictor(
            make_runner(
                make_scorer(artifact.estimator, artifact.scaler),
                max_batch_size=SETTINGS.max_batch_size,
                queue_size=SETTINGS.queue_size,
                timeout=SETTINGS.request_timeout_seconds,
            ),
            model_tag=artifact.tag,
            threshold=artifact.threshold if threshold is None else threshold,
        )

    @bentoml.on_startup
    def start(self) -> None:
        """Open the door."""
        STATE.predictor = self.predictor
        # What exists now exists until the end: spare every later collection from looking at it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    @bentoml.on_shutdown
    def stop(self) -> None:
        """Close it."""
        STATE.predictor = None

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
