"""The hand-tuned FastAPI's endpoint on bare Starlette: what FastAPI's own routing costs.

uvicorn benchmarks.peers.starlette_app:app --loop uvloop --http httptools
    --no-access-log --no-server-header --no-proxy-headers
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.peers.lean_metrics import LeanMetrics
from benchmarks.peers.model import ARTIFACT, freeze, prediction
from churn_serving.features.rows import customer_row
from churn_serving.model.scoring import make_scorer
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

scorer = make_scorer(ARTIFACT.estimator, ARTIFACT.scaler)


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
