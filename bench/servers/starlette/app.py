"""One endpoint of Starlette, with the scorer on the event loop."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from bench.servers.lean_metrics import LeanMetrics
from bench.servers.model import freeze, load_scorer, prediction
from churn_serving.features.rows import customer_row
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

scorer = load_scorer()


async def predict(request: Request) -> Response:
    """Predict whether one customer will leave."""
    customer = Customer.model_validate_json(await request.body())
    answer = prediction(scorer.score_row(customer_row(customer)))
    return Response(to_json(answer), media_type="application/json")


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    freeze()
    yield


app = Starlette(
    routes=[Route("/predict", predict, methods=["POST"])],
    middleware=[Middleware(LeanMetrics)],
    lifespan=_lifespan,
)
