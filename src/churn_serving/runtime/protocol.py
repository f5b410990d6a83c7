"""uvicorn's HTTP protocol with bounds on what is no body, and with a gentle end."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["CLOSE", "MAX_HEADER_BYTES", "Protocol", "answer_at_once"]

CLOSE: Final = (b"connection", b"close")

MAX_HEADER_BYTES: Final = 64 * 1024
_SENTENCE: Final = b'{"error":"This is no valid HTTP request.","detail":[]}'
_NO_REQUEST: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"connection: close\r\n\r\n%b" % (len(_SENTENCE), _SENTENCE)
)
MAX_LINGERING_BYTES: Final = 256 * 1024**2
"""Nobody who sends more after the last answer still means to read it."""

NEWCOMER_SECONDS: Final = 0.5
"""For the first request of a connection that was taken just before the server ends."""


class Protocol(HttpToolsProtocol):
    """One connection.

    - httptools takes a header, a trailer or a chunk extension of any length, and the time for one
      grows with its square: the connection is closed once it is too long.
    - A body that nobody reads any more is parsed and thrown away, so that the next request on the
      connection is found behind it. If the answer has said ``Connection: close``, or the parser
      has lost its way, what still arrives is thrown away unparsed.
    - A request to speak another protocol is answered as if it had not asked. Java's client asks in
      its first request, whose body the parser would skip.
    - A connection without a request yet outlives the order to end by a moment.

    A method that the parser calls costs each request a microsecond, so what follows is done when
    data has arrived that does not begin a request and end it, which is rare.

    Attributes:
        body_left: Bytes of the current request's body that are still to come.
    """

    transport: Any
    cycle: Any
    body_left: float = 0
    _owed = 0
    _pieces = _seen = 0
    _lost = _asked_to_end = False
    _fed = _again = b""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvloop's is no asyncio.Transport
        """Begin."""
        wrapped: Any = _Transport(transport, self._close)
        super().connection_made(wrapped)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        # They refer to each other. What nobody has read of a body must not wait for the collector.
        self.cycle = None  # as before the first request
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived."""
        if self._lost:
            return
        request = self.cycle
        self._fed = data
        super().data_received(data)
        while self._again:
            self._fed, self._again = self._again, b""
            super().data_received(self._fed)
        self._fed = b""  # up to 256 KiB, which a connection would hold as long as it lives
        cycle = self.cycle
        if cycle is request or cycle is None:
            self._continue(len(data))
        else:
            self._owed = 0
            self.body_left = 0
            if cycle.more_body:
                self.body_left = _announced(cycle.scope["headers"]) - len(cycle.body)

    def on_body(self, body: bytes) -> None:
        """Do what uvicorn does, without its look at an upgrade, which has no body; and count."""
        self._pieces += 1
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def _continue(self, size: int) -> None:
        """Look at what has arrived but has begun no request: more of a header, or of a body."""
        request = self.cycle
        if self._lost:
            return
        if request is None or not (request.more_body or self.body_left):
            self._owe(size)
        elif self.body_left == inf:  # in chunks: is there anything in what has arrived?
            if self._pieces == self._seen:
                self._owe(size)
            else:
                self._owed, self._seen = 0, self._pieces
        else:
            self.body_left = max(self.body_left - size, 0)
            if not self.body_left and request.response_complete:
                request.more_body = False
                # The connection has been idle only since now, not since the answer.
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

    def _owe(self, size: int) -> None:
        self._owed += size
        if self._owed > MAX_HEADER_BYTES:
            self.transport.abort()

    def shutdown(self) -> None:
        """End as soon as nothing is being answered; a first request may be on the way."""
        if self.cycle is None and not self._asked_to_end:
            self._asked_to_end = True
            self.loop.call_later(NEWCOMER_SECONDS, self.shutdown)
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words, not the contract's
        """Take no further request; a complete one that came before is answered first."""
        self._lost = True
        if self.cycle and not (self.cycle.response_complete or self.cycle.more_body):
            self.cycle.keep_alive = False
        elif self.pipeline:  # the broken one is the newest; those before it are answered first
            self.pipeline[0] = self.cycle, _refuse
        else:
            self.transport.write(_NO_REQUEST)
            self.transport.close()

    def _should_upgrade(self) -> bool:
        # CONNECT asks for nothing else, and has no body.
        return bool(self.parser.get_method() != b"CONNECT")

    def _unsupported_upgrade_warning(self) -> None:
        self.send_400_response("Invalid HTTP request received.")

    def handle_websocket_upgrade(self) -> None:
        """Parse a request to speak another protocol again, without that."""
        upgrade = sys.exc_info()[1]
        assert isinstance(upgrade, httptools.HttpParserUpgrade)  # noqa: S101 - who calls this has caught it
        head = b"%b %b HTTP/%b\r\n" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._again = b"".join([head, *fields, b"\r\n", self._fed[upgrade.args[0] :]])

    def _close(self) -> None:
        unread = self._lost or self.pipeline or (self.cycle and self.cycle.more_body)
        transport = self.transport.real
        if unread and not transport.is_closing():
            self.transport.close = self.transport.write = _nothing
            self.transport.is_closing = lambda: True
            _Lingering(transport, self.connections)
            self.connection_lost(None)
        else:
            transport.close()


def answer_at_once(
    send: object, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> bool:
    """Write a complete answer, headers and body in one piece, if uvicorn is ready for one.

    It is what ``send`` would do in two calls, without its look at each header: those here are our
    own. That costs a fifth of a request. Nothing is written to whom uvicorn would let wait, or
    through a ``send`` that is not uvicorn's.

    Args:
        send: Of an ASGI application; no answer has begun.
        status: Of the answer, which has a body, so not to HEAD.
        headers: All of them, but for uvicorn's own; names in lower case.
        body: All of it.

    Returns:
        Whether it was written; else it must be sent.
    """
    cycle = getattr(send, "__self__", None)
    if type(cycle) is not RequestResponseCycle or cycle.flow.write_paused or cycle.disconnected:
        return False
    parts = [STATUS_LINE[status]]
    if CLOSE in headers:
        cycle.keep_alive = False
    elif not cycle.keep_alive:
        parts.append(b"connection: close\r\n")
    for name, value in (*cycle.default_headers, *headers):
        parts += (name, b": ", value, b"\r\n")
    parts += (b"\r\n", body)
    cycle.transport.write(b"".join(parts))
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


class _Transport:
    """A transport as uvicorn uses it, whose ``close`` asks the protocol how."""

    def __init__(self, transport: Any, close: Callable[[], None]) -> None:  # noqa: ANN401 - see above
        self.close: Callable[..., None] = close
        self.write: Callable[..., None] = transport.write
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


async def _refuse(_: object, __: object, send: Any) -> None:  # noqa: ANN401 - an ASGI application
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_SENTENCE))]
    answer_at_once(send, HTTPStatus.BAD_REQUEST, [*headers, CLOSE], _SENTENCE)


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """Return how long a body will be; infinite if it comes in chunks."""
    return next((int(value) for name, value in headers if name == b"content-length"), inf)


def _nothing(*_: object) -> None:
    pass
