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

from churn_serving.runtime.protocol import Protocol

if TYPE_CHECKING:
    from types import FrameType

    from churn_serving.runtime.state import ServiceState
    from churn_serving.settings import Settings

__all__ = ["HEADER_SECONDS", "Connections", "running_server", "stop_last"]

logger = logging.getLogger(__name__)

HEADER_SECONDS: Final = 10.0
"""For a whole request header to come; a client on the slowest line sends one in less than one."""

_SWEEP_SECONDS: Final = 1.0


def running_server() -> uvicorn.Server | None:
    """Return the server that runs this process, or None in a process that has none, like a test."""
    # It has registered itself for the signal that ends it.
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, uvicorn.Server) else None


def stop_last(server: uvicorn.Server, settings: Settings) -> None:
    """Let a server that others depend on outlive their draining.

    On SIGTERM it goes on for as long as they may take requests, and may wait for it.
    """
    loop = asyncio.get_running_loop()
    seconds = settings.drain_delay_seconds + settings.request_timeout_seconds

    def stop(number: int, _: FrameType | None) -> None:
        loop.call_soon_threadsafe(loop.call_later, seconds, server.handle_exit, number, None)

    signal.signal(signal.SIGTERM, stop)


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
        self._drain_delay = settings.drain_delay_seconds
        self._loop = asyncio.get_running_loop()
        # Of each connection that is not idle: its last request, whether that has been answered, how
        # much of a body has come since then that nobody wants; and since when all that holds.
        self._waiting: dict[Any, tuple[tuple[object, ...], float]] = {}
        self._answer_seconds = settings.request_timeout_seconds + HEADER_SECONDS
        server.config.timeout_keep_alive = settings.idle_timeout_seconds
        server.config.timeout_graceful_shutdown = settings.drain_seconds
        server.config.http_protocol_class = Protocol
        signal.signal(signal.SIGTERM, self._drain)

    async def sweep_regularly(self) -> None:
        """Close, once a second, connections that have owed us a header, or a reader, for too long.

        uvicorn waits without limit for the first byte of a new connection, and, once one byte of a
        header has come, for the rest. One look a second at all connections costs a request nothing;
        a timer for each would.
        """
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._sweep()

    def _sweep(self) -> None:
        now = monotonic()
        waiting: dict[Any, tuple[tuple[object, ...], float]] = {}
        for connection in self._server.server_state.connections:
            request: Any = getattr(connection, "cycle", None)
            answered = request is None or request.response_complete
            if answered and getattr(connection, "timeout_keep_alive_task", None) is not None:
                continue  # idle, which uvicorn watches itself
            now_is = request, answered, getattr(connection, "body_left", 0) if answered else 0
            last = self._waiting.get(connection)
            since = now if last is None or last[0] != now_is else last[1]
            # Who does not read its answer keeps it from being complete.
            if now - since < (HEADER_SECONDS if answered else self._answer_seconds):
                waiting[connection] = now_is, since
            else:
                connection.transport.abort()
        self._waiting = waiting

    def _drain(self, number: int, frame: FrameType | None) -> None:
        """Answer SIGTERM: say that no more should come, wait for that to be heard, then stop.

        Supervisors of supervisors send it to all processes, and BentoML's to its workers again: a
        second one changes nothing.
        """
        if self._state.draining:
            return
        self._state.draining = True
        if self._drain_delay == 0:
            self._server.handle_exit(number, frame)
        else:
            self._loop.call_soon_threadsafe(self._stop_later, number)

    def _stop_later(self, number: int) -> None:
        logger.info("Draining: requests are taken for %g more seconds", self._drain_delay)
        self._loop.call_later(self._drain_delay, self._server.handle_exit, number, None)
