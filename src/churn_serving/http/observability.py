"""What Prometheus and people ask about the running service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from churn_serving.telemetry.exposition import exposition

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from churn_serving.runtime.state import ServiceState

__all__ = ["METRICS", "MODEL", "observability_routes"]

METRICS: Final = "/metrics"
MODEL: Final = "/metrics/model"


def observability_routes(state: ServiceState, *, refresh: Callable[[], None]) -> list[BaseRoute]:
    """Return the routes of the metrics: all processes in one exposition.

    Args:
        state: Has the metrics.
        refresh: Brings this worker's own figures up to date.
    """

    async def metrics(_: Request) -> Response:
        refresh()
        # On the event loop, like everything that is counted: a counter knows no threads.
        text = exposition(state.metrics, state.exchange)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def model(_: Request) -> Response:
        return JSONResponse({**state.model, "model_load_time_seconds": state.model_load_seconds})

    return [Route(METRICS, metrics), Route(MODEL, model)]
