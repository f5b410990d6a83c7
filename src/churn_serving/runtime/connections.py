"""What uvicorn leaves open: connections that say nothing, and the door while the house is emptied.

BentoML starts uvicorn by itself and passes none of these on, so the running server is looked up
once, when the service starts, and told then.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from churn_serving.runtime.state import ServiceState
    from churn_serving.settings import Settings

__all__ = ["MAX_HEADER_BYTES", "Connections", "running_server", "stop_last"]

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES: Final = 64 * 1024
MAX_LINGERING_BYTES: Final = 256 * 1024**2
"""Nobody who sends more after the last answer still means to read it."""

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


class _Transport:
    """A transport as uvicorn uses it, whose ``close`` asks the protocol how."""

    def __init__(self, transport: Any, close: Callable[[], None]) -> None:  # noqa: ANN401 - uvloop's is no asyncio.Transport
        self.close = close
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.real = transport

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
        return getattr(self.real, name)


class _Lingering(asyncio.Protocol):
    """The end of a connection whose client still sends what nobody wants.

    Closing the socket at once would answer those bytes with a reset, which destroys the answer
    before the client has read it. So we only say that nothing more will come, throw away what
    arrives, and wait for the client to close (nginx calls it a lingering close). ``Connections``
    closes who does not.
    """

    def __init__(self, transport: Any, connections: set[Any]) -> None:  # noqa: ANN401 - see above
        self.transport = transport
        self._connections = connections
        self._left = MAX_LINGERING_BYTES
        connections.add(self)
        transport.set_protocol(self)
        transport.resume_reading()
        with suppress(OSError):  # the client has gone; connection_lost will say so
            if transport.can_write_eof():
                transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self)

    def shutdown(self) -> None:
        """Do nothing when uvicorn ends: the client will close, or be closed."""


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on what is no body, and with a gentle end.

    - httptools takes a header, a trailer or a chunk extension of any length, and the time for one
      grows with its square: the connection is closed once it is too long.
    - A body that nobody reads any more is parsed and thrown away, so that the next request on the
      connection is found behind it. If the answer has said ``Connection: close``, or the parser
      has lost its way, what still arrives is thrown away unparsed.
    - A request to speak another protocol is answered as if it had not asked. Java's client asks in
      its first request, whose body the parser would skip.
    """

    transport: Any
    owed = 0
    pieces = 0
    lost = False
    asks_for_upgrade = False

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - see _Transport
        wrapped: Any = _Transport(transport, self.close)
        super().connection_made(wrapped)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # They refer to each other. What nobody has read of a body must not wait for the collector.
        self.cycle = None  # type: ignore[assignment] # as before the first request
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        if self.lost:
            return
        request = self.cycle
        self.owed += len(data)
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        try:
            while rest:
                rest = self._parsed(rest)
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self._lose_way()
        if self.cycle is not request or self.lost:
            self.owed = 0
        elif self.owed > MAX_HEADER_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        self._unset_keepalive_if_required()
        parser = self.parser
        # CONNECT asks for nothing else, and has no body.
        self.asks_for_upgrade = parser.should_upgrade() and parser.get_method() != b"CONNECT"
        if not self.asks_for_upgrade:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.owed = 0
        self.pieces += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.asks_for_upgrade:
            return
        super().on_message_complete()
        self.cycle.more_body = False
        if self.cycle.response_complete:
            # The connection has been idle only since now, not since the answer.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _parsed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Parse up to a request for another protocol, or to the end; return the rest."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self.asks_for_upgrade:
                self._lose_way()
                return b""
            head = b"%b %b HTTP/%b\r\n" % (
                self.parser.get_method(),
                self.url,
                self.parser.get_http_version().encode(),
            )
            fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            self.parser.feed_data(b"".join([head, *fields, b"\r\n"]))
            return memoryview(data)[upgrade.args[0] :]
        return b""

    def _lose_way(self) -> None:
        """Take no further request; a complete one that came before is answered first."""
        self.lost = True
        if self.cycle and not (self.cycle.response_complete or self.cycle.more_body):
            self.cycle.keep_alive = False
        else:
            self.send_400_response("Invalid HTTP request received.")

    def close(self) -> None:
        unread = self.lost or self.pipeline or (self.cycle and self.cycle.more_body)
        transport = self.transport.real
        if unread and not transport.is_closing():
            self.transport.close = _nothing
            self.transport.write = _nothing
            self.transport.is_closing = lambda: True
            _Lingering(transport, self.connections)
            self.connection_lost(None)
        else:
            transport.close()


def _nothing(*_: object) -> None:
    pass


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
        server.config.http_protocol_class = _Protocol
        server.config.ws_protocol_class = None
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
            now_is = request, answered, getattr(connection, "pieces", 0) if answered else 0
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
        second one changes nothing. Ctrl-C stops at once.
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
