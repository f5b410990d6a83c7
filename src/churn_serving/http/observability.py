"""What Prometheus asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from churn_serving.metrics import exposition

if TYPE_CHECKING:
    from starlette.requests import Request

    from churn_serving.http.state import ServiceState

__all__ = ["METRICS", "observability_app"]

METRICS: Final = "/metrics"


def observability_app(state: ServiceState) -> Starlette:
    """Return the application that serves ``/metrics``: all processes in one exposition."""

    def metrics(_: Request) -> Response:
        state.metrics.flush()
        return Response(exposition(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route(METRICS, metrics)])
