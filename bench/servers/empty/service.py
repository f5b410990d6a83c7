"""A service that answers a constant, with the settings and the HTTP packages of ours.

The settings are those that ``churn_serving.runtime.assemble`` gives to BentoML: what is off there
is off here. The packages are those that our supervisor and workers import to answer HTTP, to be
configured, to be measured and to log; BentoML itself brings the others (starlette, uvicorn and
httptools, opentelemetry's API, pydantic, psutil, aiohttp, and numpy). Nothing is imported that has
to do with a model.
"""

from __future__ import annotations

import bentoml
import httptools
import prometheus_client
import pydantic_settings
import structlog
import uvicorn
import uvloop

HTTP_PACKAGES = (
    httptools,
    prometheus_client,
    pydantic_settings,
    structlog,
    uvicorn,
    uvloop,
)


@bentoml.service(
    workers=1,
    traffic={"timeout": 6},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
    envs=[{"name": name, "value": "1"} for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")],
)
class Empty:
    """Predicts nothing."""

    @bentoml.api
    async def predict(self) -> dict[str, float]:
        """Return a constant, whatever is asked."""
        return {"churn_probability": 0.5}
