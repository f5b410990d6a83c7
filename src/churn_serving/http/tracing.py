"""OpenTelemetry spans, one for each request, when they are switched on."""

from __future__ import annotations

import asyncio
import logging
from threading import Thread
from typing import TYPE_CHECKING, Final

from churn_serving.http.edge import route_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["traced"]

logger = logging.getLogger(__name__)

SHUTDOWN_SECONDS: Final = 3.0
"""For the last spans to be sent at the end: a collector that hangs must not hold the process up."""

_CONTEXT: Final = {b"traceparent", b"tracestate"}
_WHOLE: Final = "churn_serving.scope"


def traced(app: ASGIApp) -> ASGIApp:
    """Return the application wrapped in a middleware that exports a span for each request.

    Everything is configured by OpenTelemetry's own variables: ``OTEL_EXPORTER_OTLP_ENDPOINT``,
    ``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER`` and so on. A span names the route; the query, a
    path that is none of ours, the caller's headers and address are not in it.
    """
    # Imported late: half a second that only those pay who trace.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    async def seen_whole(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope.get(_WHOLE, scope), receive, send)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    middleware: ASGIApp = OpenTelemetryMiddleware(
        seen_whole, tracer_provider=provider, exclude_spans=["receive", "send"]
    )

    async def flushed(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_after_flush(message: Message) -> None:
            # The server ends with a signal, so nothing that is left to the exit is ever sent.
            if message["type"] == "lifespan.shutdown.complete":
                await _shut_down(provider)
            await send(message)

        if scope["type"] == "lifespan":
            await app(scope, receive, send_after_flush)
        else:
            await middleware(_without_the_caller(scope), receive, send)

    return flushed


def _without_the_caller(scope: Scope) -> Scope:
    """Return what a span may be made of; the whole is kept for the application."""
    route = route_of(scope)
    return {
        **scope,
        "path": route,
        "raw_path": route.encode(),
        "query_string": b"",
        "client": None,
        "headers": [pair for pair in scope["headers"] if pair[0] in _CONTEXT],
        _WHOLE: scope,
    }


async def _shut_down(provider: TracerProvider) -> None:
    """Send the last spans, in a thread that the end of the process does not wait for."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def shut_down() -> None:
        provider.shutdown()
        loop.call_soon_threadsafe(done.set)

    Thread(target=shut_down, daemon=True).start()
    try:
        await asyncio.wait_for(done.wait(), SHUTDOWN_SECONDS)
    except TimeoutError:
        logger.warning("The last spans were not sent within %g s", SHUTDOWN_SECONDS)
