"""FastAPI tuned by hand, with this project's own scorer, so that only the serving differs.

The variants of an endpoint were measured (CPU us/request, logistic, instrumentator on):

    typed parameter, response model                            179
    typed parameter, ready Response                            172
    body straight into pydantic-core, ready Response           155  <- this one

The three factories differ in the metrics or in where the model runs.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from fastapi import FastAPI, Request, Response
from prometheus_fastapi_instrumentator import Instrumentator
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from bench.servers.lean_metrics import LeanMetrics
from bench.servers.model import (
    batch_prediction,
    freeze,
    load_pipeline,
    load_scorer,
    prediction,
    prediction_v1,
)
from churn_serving.features.rows import customer_row, feature_matrix
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class CustomerBatch(BaseModel):
    """Customers to ask about at once."""

    items: Annotated[list[Customer], Field(min_length=1, max_length=1000)]


class Model(Protocol):
    """Returns the churn probabilities of customers, without blocking the event loop for long."""

    async def __call__(self, customers: list[Customer]) -> list[float]:
        """Score them."""
        ...


def inline_model() -> Model:
    """Return this project's scorer on the event loop: it takes microseconds."""
    scorer = load_scorer()

    async def score(customers: list[Customer]) -> list[float]:
        if len(customers) == 1:
            return [scorer.score_row(customer_row(customers[0]))]
        churns: list[float] = scorer.score(feature_matrix(map(customer_row, customers))).tolist()
        return churns

    return score


def threadpool_model() -> Model:
    """Return scikit-learn's ``predict_proba`` in a thread: it takes a millisecond."""
    pipeline = load_pipeline()

    async def score(customers: list[Customer]) -> list[float]:
        X = feature_matrix(map(customer_row, customers))
        churns: list[float] = (await run_in_threadpool(pipeline.predict_proba, X))[:, 1].tolist()
        return churns

    return score


def app() -> FastAPI:
    """Return the application with this project's scorer and the usual Prometheus package."""
    made = _app(inline_model())
    Instrumentator().instrument(made).expose(made)
    return made


def lean_app() -> FastAPI:
    """Return the same with hand-written metrics, which cost a third of that package's."""
    made = _app(inline_model())
    made.add_middleware(LeanMetrics)
    return made


def threadpool_app() -> FastAPI:
    """Return the application with scikit-learn's own ``predict_proba`` in the threadpool."""
    made = _app(threadpool_model())
    Instrumentator().instrument(made).expose(made)
    return made


def _app(model: Model) -> FastAPI:
    app = FastAPI(lifespan=_lifespan)
    # Reading the body here instead of declaring it saves FastAPI's json.loads and its second look
    # at the result; the documentation still shows the schema.

    @app.post("/predict", response_model=None, openapi_extra=_body(Customer))
    async def predict(request: Request) -> Response:
        customer = Customer.model_validate_json(await request.body())
        return _json(prediction((await model([customer]))[0]))

    @app.post("/api/v1/predict", response_model=None, openapi_extra=_body(Customer))
    async def predict_v1(request: Request) -> Response:
        customer = Customer.model_validate_json(await request.body())
        start = perf_counter()
        churn = (await model([customer]))[0]
        return _json(prediction_v1(churn, (perf_counter() - start) * 1e3))

    @app.post("/api/v1/predict/batch", response_model=None, openapi_extra=_body(CustomerBatch))
    async def predict_batch(request: Request) -> Response:
        batch = CustomerBatch.model_validate_json(await request.body())
        start = perf_counter()
        churns = await model(batch.items)
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
