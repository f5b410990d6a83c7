"""FastAPI tuned by hand, with this project's own scorer, so that only the serving differs.

    uvicorn --factory benchmarks.peers.hand_tuned:app --loop uvloop --http httptools
        --no-access-log --no-server-header --no-proxy-headers

The variants of an endpoint were measured (CPU us/request, logistic, instrumentator on):

    typed parameter, response model                            179
    typed parameter, ready Response                            172
    body straight into pydantic-core, ready Response           155  <- this one

The three factories differ in the metrics or in where the model runs.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI, Request, Response
from prometheus_fastapi_instrumentator import Instrumentator
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from benchmarks.peers.lean_metrics import LeanMetrics
from benchmarks.peers.model import ARTIFACT, batch_prediction, freeze, prediction, prediction_v1
from churn_serving.features.rows import Row, customer_row, feature_matrix
from churn_serving.http.api.v1 import CustomerBatch
from churn_serving.model.scoring import EstimatorScorer, Scorer, make_scorer
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic import BaseModel


class Model(Protocol):
    """Scores without blocking the event loop for long."""

    async def score_row(self, row: Row) -> float:
        """Return one customer's churn probability."""
        ...

    async def score_rows(self, rows: list[Row]) -> list[float]:
        """Return the churn probabilities of the rows."""
        ...


class InlineModel:
    """Scores on the event loop: right for a scorer that takes microseconds."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def score_row(self, row: Row) -> float:
        """Return one customer's churn probability."""
        return self._scorer.score_row(row)

    async def score_rows(self, rows: list[Row]) -> list[float]:
        """Return the churn probabilities of the rows."""
        churns: list[float] = self._scorer.score(feature_matrix(rows)).tolist()
        return churns


class ThreadpoolModel:
    """Scores in a thread: right for a ``predict_proba`` that takes a millisecond."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def score_row(self, row: Row) -> float:
        """Return one customer's churn probability."""
        return await run_in_threadpool(self._scorer.score_row, row)

    async def score_rows(self, rows: list[Row]) -> list[float]:
        """Return the churn probabilities of the rows."""
        scored = await run_in_threadpool(self._scorer.score, feature_matrix(rows))
        churns: list[float] = scored.tolist()
        return churns


def app() -> FastAPI:
    """Return the application with this project's scorer and the usual Prometheus package."""
    made = _app(InlineModel(make_scorer(ARTIFACT.estimator, ARTIFACT.scaler)))
    Instrumentator().instrument(made).expose(made)
    return made


def lean_app() -> FastAPI:
    """Return the same with hand-written metrics, which cost a third of that package's."""
    made = _app(InlineModel(make_scorer(ARTIFACT.estimator, ARTIFACT.scaler)))
    made.add_middleware(LeanMetrics)
    return made


def threadpool_app() -> FastAPI:
    """Return the application with scikit-learn's own ``predict_proba`` in the threadpool."""
    made = _app(ThreadpoolModel(EstimatorScorer(ARTIFACT.estimator, ARTIFACT.scaler)))
    Instrumentator().instrument(made).expose(made)
    return made


def _app(model: Model) -> FastAPI:
    app = FastAPI(lifespan=_lifespan)
    # Reading the body here instead of declaring it saves FastAPI's json.loads and its second look
    # at the result; the documentation still shows the schema.

    @app.post("/predict", response_model=None, openapi_extra=_body(Customer))
    async def predict(request: Request) -> Response:
        customer = Customer.model_validate_json(await request.body())
        return _json(prediction(await model.score_row(customer_row(customer))))

    @app.post("/api/v1/predict", response_model=None, openapi_extra=_body(Customer))
    async def predict_v1(request: Request) -> Response:
        customer = Customer.model_validate_json(await request.body())
        start = perf_counter()
        churn = await model.score_row(customer_row(customer))
        return _json(prediction_v1(churn, (perf_counter() - start) * 1e3))

    @app.post("/api/v1/predict/batch", response_model=None, openapi_extra=_body(CustomerBatch))
    async def predict_batch(request: Request) -> Response:
        batch = CustomerBatch.model_validate_json(await request.body())
        start = perf_counter()
        churns = await model.score_rows([customer_row(item) for item in batch.items])
        return _json(batch_prediction(churns, (perf_counter() - start) * 1e3))

    @app.exception_handler(ValidationError)
    async def refuse(_: Request, error: ValidationError) -> Response:
        return _json({"detail": error.errors(include_url=False, include_context=False)}, 422)

    return app


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    freeze()
    yield


def _json(answer: object, status: int = 200) -> Response:
    return Response(to_json(answer), status_code=status, media_type="application/json")


def _body(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
