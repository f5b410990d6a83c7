"""What uvicorn leaves open: connections that say nothing, and the door while the house is emptied.

BentoML starts uvicorn by itself and passes none of these on, so the running server is looked up
once, when the service starts, and told then.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import uvicorn

if TYPE_CHECKING:
    from types import FrameType

    from churn_serving.http.state import ServiceState
    from churn_serving.settings import Settings

__all__ = ["Connections", "running_server"]

logger = logging.getLogger(__name__)

_SWEEP_SECONDS: Final = 1.0


def running_server() -> uvicorn.Server | None:
    """Return the server that runs this process, or None in a process that has none, like a test."""
    # It has registered itself for the signal that ends it.
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, uvicorn.Server) else None


class Connections:
    """The connections of one server.

    Args:
        server: Must not have accepted any yet.
        state: Is told when the service drains.
        settings: How long connections may be silent, and how long draining may take.
    """

    def __init__(self, server: uvicorn.Server, *, state: ServiceState, settings: Settings) -> None:
        self._server = server
        self._state = state
        self._header_seconds = settings.header_timeout_seconds
        self._drain_delay = settings.drain_delay_seconds
        self._loop = asyncio.get_running_loop()
        # What each connection that owes us a header last did, and since when it has owed it.
        self._waiting: dict[Any, tuple[object, float]] = {}
        server.config.timeout_keep_alive = settings.idle_timeout_seconds
        server.config.timeout_graceful_shutdown = settings.drain_seconds
        signal.signal(signal.SIGTERM, self._drain)

    async def sweep_regularly(self) -> None:
        """Close, once a second, connections whose header has been on its way for too long.

        uvicorn waits without limit for the first byte of a new connection, and, once one byte of a
        header has come, for the rest. One look a second at all connections costs a request nothing;
        a timer for each would.
        """
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._sweep()

    def _sweep(self) -> None:
        now = monotonic()
        waiting: dict[Any, tuple[object, float]] = {}
        for connection in self._server.server_state.connections:
            request: Any = getattr(connection, "cycle", None)
            if request is not None and not request.response_complete:
                continue  # being answered
            if getattr(connection, "timeout_keep_alive_task", None) is not None:
                continue  # idle, which uvicorn watches itself
            last_request, since = self._waiting.get(connection, (request, now))
            if last_request is not request:
                since = now
            if now - since < self._header_seconds:
                waiting[connection] = request, since
            else:
                connection.transport.abort()
        self._waiting = waiting

    def _drain(self, number: int, frame: FrameType | None) -> None:
        """Answer SIGTERM: say that no more should come, wait for that to be heard, then stop.

        A second signal, or one after Ctrl-C, stops at once.
        """
        if self._state.draining or self._server.should_exit or self._drain_delay == 0:
            self._state.draining = True
            self._server.handle_exit(number, frame)
            return
        self._state.draining = True
        self._loop.call_soon_threadsafe(self._stop_later, number)

    def _stop_later(self, number: int) -> None:
        logger.info("Draining: requests are taken for %g more seconds", self._drain_delay)
        self._loop.call_later(self._drain_delay, self._server.handle_exit, number, None)
