"""The routes that are asked for with GET: documentation, probes, metrics."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from churn_serving.http.docs import DOCS, INDEX, OPENAPI, docs_routes
from churn_serving.http.health import LIVENESS, READINESS, health_routes
from churn_serving.http.observability import METRICS, MODEL, observability_routes
from churn_serving.http.problems import sentence_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from churn_serving.runtime.state import ServiceState

__all__ = ["PAGES", "pages"]

SCHEMA: Final = "/schema.json"
PAGES: Final = (INDEX, DOCS, OPENAPI, SCHEMA, LIVENESS, READINESS, METRICS, MODEL)


def pages(
    *, state: ServiceState, refresh: Callable[[], None], version: str, keys: bool, schema: bytes
) -> ASGIApp:
    """Return an application that answers ``PAGES``.

    Args:
        state: What the probes and the metrics tell.
        refresh: Brings this worker's own figures up to date.
        version: The version of the package.
        keys: Whether requests need an API key.
        schema: What BentoML's client wants to know of the service, as JSON.
    """

    async def schema_page(_: Request) -> Response:
        return Response(schema, media_type="application/json")

    return Starlette(
        routes=[
            *docs_routes(version=version, keys=keys),
            *health_routes(state),
            *observability_routes(state, refresh=refresh),
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
