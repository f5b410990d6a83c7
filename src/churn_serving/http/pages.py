"""What is asked for with GET: documentation for people, probes, figures for Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from churn_serving.http.api.v2 import POLICY, policy_answer
from churn_serving.http.card import CARD, card_route
from churn_serving.http.docs import DOCS, OPENAPI, docs_routes
from churn_serving.http.openapi import Document
from churn_serving.http.problems import sentence_of
from churn_serving.http.reference import REFERENCE, reference_route
from churn_serving.http.web import INDEX, WEB, web_routes
from churn_serving.runtime.state import LIVENESS, READINESS
from churn_serving.telemetry.exposition import exposition

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from churn_serving.runtime.state import ServiceState

__all__ = ["METRICS", "MODEL", "PAGES", "PATHS", "SCHEMA", "pages"]

METRICS: Final = "/metrics"
MODEL: Final = "/metrics/model"
SCHEMA: Final = "/schema.json"
PAGES: Final = (
    *(INDEX, DOCS, REFERENCE, OPENAPI, SCHEMA),
    *(LIVENESS, READINESS, METRICS, MODEL, CARD, POLICY),
)
"""What is counted by its own name."""

PATHS: Final = frozenset((*PAGES, *WEB))
"""All that is answered here: the files of a page, too."""


def pages(
    *, state: ServiceState, refresh: Callable[[], None], version: str, keys: bool, schema: bytes
) -> ASGIApp:
    """Return an application that answers ``PATHS``.

    Args:
        state: What the probes and the metrics tell.
        refresh: Brings this worker's own figures up to date.
        version: The version of the package.
        keys: Whether requests need an API key.
        schema: What BentoML's client wants to know of the service, as JSON.
    """

    async def liveness(_: Request) -> Response:
        dead = state.siblings.one_is_missing
        return JSONResponse(
            {
                "status": "a worker is dead" if dead else "alive",
                "timestamp": datetime.now(UTC).isoformat(),
                "uptime_seconds": round(state.process.uptime_seconds, 3),
            },
            HTTPStatus.SERVICE_UNAVAILABLE if dead else HTTPStatus.OK,
        )

    async def readiness(_: Request) -> Response:
        phase = state.phase
        body = {
            "status": phase,
            "model_loaded": state.predictor is not None,
            "model_version": state.metrics.model_version,
            "model_load_time_seconds": state.model_load_seconds,
            "memory_usage_mb": round(state.process.memory_bytes / 2**20, 1),
            "cpu_percent": state.process.cpu_percent,
        }
        if phase == "ready":
            return JSONResponse(body)
        if state.failure:
            body["reason"] = state.failure
        return JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"})

    async def metrics(_: Request) -> Response:
        refresh()
        # On the event loop, like everything that is counted: a counter knows no threads.
        text = exposition(state.metrics, state.exchange)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def model(_: Request) -> Response:
        return JSONResponse({**state.model, "model_load_time_seconds": state.model_load_seconds})

    async def policy(_: Request) -> Response:
        return JSONResponse(policy_answer(state.policy))

    async def schema_page(_: Request) -> Response:
        return Response(schema, media_type="application/json")

    document = Document(state=state, version=version, keys=keys)
    return Starlette(
        routes=[
            *web_routes(),
            *docs_routes(document),
            reference_route(document),
            Route(LIVENESS, liveness),
            Route(READINESS, readiness),
            Route(METRICS, metrics),
            Route(MODEL, model),
            Route(POLICY, policy),
            card_route(state.card, state.model["model_tag"]),
            Route(SCHEMA, schema_page),
        ],
        exception_handlers={HTTPException: _problem, Exception: _problem},
    )


def _problem(_: Request, error: Exception) -> Response:
    """Answer 405 with what is allowed, or 500 without internals; the server logs the error."""
    status, headers = HTTPStatus.INTERNAL_SERVER_ERROR.value, None
    if isinstance(error, HTTPException):
        status, headers = error.status_code, error.headers
    return JSONResponse({"error": sentence_of(status), "detail": []}, status, headers)
