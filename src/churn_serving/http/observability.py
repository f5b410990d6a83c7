"""What Prometheus asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
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

    async def metrics(_: Request) -> Response:
        # Here, on the event loop, like everything that is tallied: a tally knows no threads.
        state.metrics.flush()
        return Response(await run_in_threadpool(exposition), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route(METRICS, metrics)])
