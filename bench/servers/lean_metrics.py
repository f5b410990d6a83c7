"""The least Prometheus middleware that is still useful: requests and durations by route."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class LeanMetrics:
    """Counts requests and times them; looks up each labelled series once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._requests = Counter("http_requests", "Requests.", ["method", "route", "status"])
        self._seconds = Histogram("http_request_duration_seconds", "Time.", ["method", "route"])
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Time one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        start = perf_counter()
        try:
            await self._app(scope, receive, send_and_look)
        finally:
            # The router leaves the matched route in the scope; a path is anybody's invention.
            route = scope.get("route")
            key = (scope["method"], route.path if route else "none", status)
            series = self._series.get(key)
            if series is None:
                series = self._requests.labels(*key), self._seconds.labels(*key[:2])
                self._series[key] = series
            requests, seconds = series
            requests.inc()
            seconds.observe(perf_counter() - start)
