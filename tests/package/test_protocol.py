"""Answers written at once: the same bytes as uvicorn's own, in one piece."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from churn_serving.runtime.protocol import CLOSE, Protocol, answer_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.types import Receive, Scope, Send

BODY = b'{"churn_prediction":1}'
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(BODY)),
    (b"x-request-id", b"mine"),
]
REQUEST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Transport(asyncio.Transport):
    """Remembers what was written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Whatever is to come has come."""

    resume_reading = pause_reading


async def _by_uvicorn(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


async def _at_once(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    assert answer_at_once(send, status, headers, BODY)


def _answered(
    answer: Callable[..., Coroutine[Any, Any, None]],
    request: bytes,
    status: int = 200,
    headers: list[tuple[bytes, bytes]] = HEADERS,
) -> Transport:
    """Return what the server does with a request that is answered in this way."""

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answer(send, status, headers)

    async def scenario() -> Transport:
        config = Config(app, lifespan="off", log_level="critical")
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"Thu, 26 Nov 2026 12:00:00 GMT")]
        protocol = Protocol(config, state, {})
        transport = Transport()
        protocol.connection_made(transport)
        protocol.data_received(request)
        while state.tasks:
            await asyncio.gather(*state.tasks)
        protocol._unset_keepalive_if_required()
        return transport

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("request_bytes", "status", "headers"),
    [
        (REQUEST, 200, HEADERS),
        (REQUEST, 422, HEADERS),
        (REQUEST, 499, HEADERS),  # a status without a phrase
        (REQUEST, 413, [*HEADERS, CLOSE]),
        (REQUEST, 413, [CLOSE, *HEADERS]),
        (REQUEST.replace(b"1.1", b"1.0"), 200, HEADERS),
        (REQUEST.replace(b"Host", b"Connection: close\r\nHost"), 200, HEADERS),
        (REQUEST * 3, 200, HEADERS),
        (REQUEST.replace(b"Host", b"Expect: 100-continue\r\nHost"), 200, HEADERS),
    ],
    ids=["200", "422", "499", "close", "close first", "1.0", "closing", "pipelined", "100"],
)
def test_the_bytes_are_those_of_uvicorn(
    request_bytes: bytes, status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    by_uvicorn = _answered(_by_uvicorn, request_bytes, status, headers)
    at_once = _answered(_at_once, request_bytes, status, headers)
    ours, theirs = (
        # Where in the header it stands that the connection ends is nobody's business.
        sorted(b"".join(transport.written).replace(b"\r\nconnection: close", b"").splitlines())
        for transport in (at_once, by_uvicorn)
    )
    assert ours == theirs
    for transport in (at_once, by_uvicorn):
        ends = b"".join(transport.written).count(b"\r\nconnection: close\r\n")
        assert ends == transport.closed
    assert at_once.closed == by_uvicorn.closed


def test_it_is_one_piece() -> None:
    (piece,) = _answered(_at_once, REQUEST).written
    assert piece.endswith(b"\r\n\r\n" + BODY)


@pytest.mark.parametrize("state", ["paused", "gone"])
def test_nothing_is_written_to_whom_uvicorn_would_let_wait(state: str) -> None:
    async def answer(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        cycle = getattr(send, "__self__", None)
        assert isinstance(cycle, RequestResponseCycle)
        if state == "paused":
            cycle.flow.pause_writing()
        else:
            cycle.disconnected = True
        assert not answer_at_once(send, status, headers, BODY)
        cycle.flow.resume_writing()
        cycle.disconnected = True

    assert _answered(answer, REQUEST).written == []


def test_nothing_is_written_past_a_send_that_is_not_uvicorns() -> None:
    async def send(_: object) -> None:
        raise AssertionError

    assert not answer_at_once(send, 200, HEADERS, BODY)
