"""OpenTelemetry spans, one for each request, when they are switched on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["traced"]


def traced(app: ASGIApp) -> ASGIApp:
    """Return the application wrapped in a middleware that exports a span for each request.

    Everything is configured by OpenTelemetry's own variables: ``OTEL_EXPORTER_OTLP_ENDPOINT``,
    ``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER`` and so on.
    """
    # Imported late: half a second that only those pay who trace.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    middleware: ASGIApp = OpenTelemetryMiddleware(
        app, tracer_provider=provider, exclude_spans=["receive", "send"]
    )

    async def flushed(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_after_flush(message: Message) -> None:
            # The server ends with a signal, so nothing that is left to the exit is ever sent.
            if message["type"] == "lifespan.shutdown.complete":
                provider.shutdown()
            await send(message)

        lifespan = scope["type"] == "lifespan"
        await middleware(scope, receive, send_after_flush if lifespan else send)

    return flushed
