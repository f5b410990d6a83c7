"""Is the process alive, and may requests come? For probes and load balancers."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from churn_serving.runtime.state import ServiceState

__all__ = ["LIVENESS", "READINESS", "health_routes"]

LIVENESS: Final = "/health"
READINESS: Final = "/health/ready"


def health_routes(state: ServiceState) -> list[BaseRoute]:
    """Return the routes of the probes."""

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

    return [Route(LIVENESS, liveness), Route(READINESS, readiness)]
