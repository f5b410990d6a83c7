"""The BentoML services: declarations only; what they do is in the package.

``ChurnService`` is what ``bentoml serve`` runs. With ``CHURN_TOPOLOGY=split`` the model runs in
``ChurnRunner``, a service of its own that can be scaled apart.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import bentoml
import numpy as np
from bentoml.exceptions import BentoMLException

from churn_serving.errors import ChurnServingError
from churn_serving.http.api import v0, v1, v2, v2_batch, warm_up
from churn_serving.http.api.v0 import Prediction
from churn_serving.http.api.v1 import BatchPrediction, CustomerBatch, PredictionV1
from churn_serving.http.api.v2 import CaseRequest, PredictionV2
from churn_serving.http.api.v2_batch import BatchAnswer, BatchRequest
from churn_serving.http.keys import key_digests
from churn_serving.runtime.assemble import assemble, service_options, settle_garbage
from churn_serving.runtime.pins import pins
from churn_serving.runtime.supervisor import prepare_supervisor
from churn_serving.schema import MAX_BATCH_ITEMS, Customer
from churn_serving.settings import load_settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

# The model is named in bentofile.yaml and looked up here: with a BentoModel attribute, a built
# Bento would look for the latest model again each time it is served.
try:
    SETTINGS = load_settings()
    KEY_DIGESTS = key_digests(SETTINGS)
    RUNTIME = assemble(SETTINGS)
    os.environ.update(pins(RUNTIME.model.tag, RUNTIME.state.policy, SETTINGS))
except ChurnServingError as error:
    # BentoML shows its own exceptions as one line, and others as a traceback.
    raise BentoMLException(str(error)) from None

OPTIONS = service_options(SETTINGS)


@bentoml.service(
    workers=SETTINGS.runner_workers,
    # By default BentoML's client closes its session after each 100 calls, under those in flight.
    runner_connection={"max_requests": sys.maxsize, "max_age": float("inf")},
    **OPTIONS,
)
class ChurnRunner:
    """The batchable runner as a service of its own, for the split topology."""

    def __init__(self) -> None:
        self.scorer = RUNTIME.become_the_runner()

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
        return self.scorer.score(X)


class ContractService(bentoml.Service[Any]):
    """A BentoML service whose application is wrapped in our HTTP edge.

    ``add_asgi_middleware`` would put the edge inside BentoML's own timeout, tracing and metrics
    middlewares, which cost more than a prediction.
    """

    def to_asgi(self, is_main: bool = True) -> ASGIApp:  # noqa: FBT001, FBT002 - BentoML's signature
        """Return BentoML's application behind ours."""
        # Imported late: the supervisor, which starts the workers, has no application.
        from churn_serving.http.app import make_app  # noqa: PLC0415

        bento = super().to_asgi(is_main)
        return make_app(bento, runtime=RUNTIME, digests=KEY_DIGESTS, schema=self.schema())


@bentoml.service(service_class=ContractService, workers=SETTINGS.workers, **OPTIONS)
class ChurnService:
    """Estimates how likely telecom customers are to leave."""

    if RUNTIME.is_split:
        runner = bentoml.depends(ChurnRunner)

    @bentoml.on_deployment
    def prepare() -> None:
        """Set up the supervisor, which only starts the workers."""
        prepare_supervisor(RUNTIME)

    def __init__(self) -> None:
        RUNTIME.worker.take_over()
        RUNTIME.worker.load(self._remote_runner if RUNTIME.is_split else RUNTIME.embedded_runner)

    def _remote_runner(self) -> Any:  # noqa: ANN401 - BentoML inspects the class
        return RUNTIME.remote_runner(self.runner)

    async def _runner_is_ready(self) -> bool:
        return bool(await self.runner.is_ready(timeout=1))

    @bentoml.on_startup
    async def start(self) -> None:
        """Let requests in."""
        await RUNTIME.worker.start(warm_up, self._runner_is_ready if RUNTIME.is_split else None)
        settle_garbage()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Let no more requests in."""
        await RUNTIME.worker.stop()

    async def __is_alive__(self) -> bool:
        """Answer ``/livez`` as ``/health`` is answered."""
        return not RUNTIME.state.siblings.one_is_missing

    async def __is_ready__(self) -> bool:
        """Answer ``/readyz`` as ``/health/ready`` is answered."""
        return RUNTIME.state.phase == "ready"

    # Requests are answered by ``churn_serving.http.lane``. These declare the routes to BentoML, for
    # its schema, its client and BentoCloud, and answer whoever calls the class itself.

    @bentoml.api(route=v0.PREDICT.path)
    async def predict(self, customer: Customer, /) -> Prediction:
        """Predict whether one customer will leave."""
        return await v0.PREDICT.answer(RUNTIME.worker.predictor, customer)

    @bentoml.api(route=v1.PREDICT.path)
    async def predict_v1(self, customer: Customer, /) -> PredictionV1:
        """Predict whether one customer will leave, with both probabilities and the time taken."""
        return await v1.PREDICT.answer(RUNTIME.worker.predictor, customer)

    @bentoml.api(route=v1.PREDICT_BATCH.path)
    async def predict_batch(self, batch: CustomerBatch, /) -> BatchPrediction:
        """Predict for 1 to 100 customers with one call of the model."""
        return await v1.PREDICT_BATCH.answer(RUNTIME.worker.predictor, batch)

    @bentoml.api(route=v2.PREDICT.path)
    async def predict_v2(self, case: CaseRequest, /) -> PredictionV2:
        """Estimate whether one customer will leave, decide whether to contact them, say why."""
        return await v2.PREDICT.answer(RUNTIME.worker.predictor, case)

    @bentoml.api(route=v2_batch.PREDICT_BATCH.path)
    async def predict_batch_v2(self, batch: BatchRequest, /) -> BatchAnswer:
        """Decide about 1 to 1,000 customers, and whom to contact first."""
        return await v2_batch.PREDICT_BATCH.answer(RUNTIME.worker.predictor, batch)
