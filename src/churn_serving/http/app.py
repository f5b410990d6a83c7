"""The application that a server runs: the edge, and what stands behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from churn_serving import __version__
from churn_serving.http.body import BodyReader
from churn_serving.http.cors import Cors
from churn_serving.http.edge import Edge
from churn_serving.http.fallback import Fallback
from churn_serving.http.keys import Keys
from churn_serving.http.lane import Lane
from churn_serving.http.pages import pages
from churn_serving.http.tracing import traced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp

    from churn_serving.runtime.assemble import Runtime

__all__ = ["make_app"]


def make_app(
    bentoml: ASGIApp, *, runtime: Runtime, digests: tuple[bytes, ...], schema: Mapping[str, Any]
) -> ASGIApp:
    """Return the application, in the order a request meets it.

    Args:
        bentoml: BentoML's own application, which answers a few paths and runs start and end.
        runtime: The settings, the state and the worker.
        digests: The SHA-256 of each API key; none: everybody may come in.
        schema: BentoML's description of the service, for its client.
    """
    settings, state = runtime.settings, runtime.state
    rest = pages(
        state=state,
        refresh=runtime.worker.reporter.refresh,
        version=__version__,
        keys=bool(digests),
        # Once: its making takes tens of milliseconds of the event loop.
        schema=to_json(schema),
    )
    app: ASGIApp = Edge(
        Lane(state=state, bodies=BodyReader(max_bytes=settings.max_body_bytes)),
        Fallback(pages=rest, bentoml=bentoml),
        state=state,
        settings=settings,
        keys=Keys(digests, metrics_public=settings.metrics_public) if digests else None,
        cors=Cors(settings) if settings.cors_origins else None,
    )
    return traced(app) if settings.tracing else app
