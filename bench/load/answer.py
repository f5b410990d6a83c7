"""HTTP/1.1 on raw sockets: what is sent and what comes back, byte by byte."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OK", "PATIENCE_SECONDS", "READ_BYTES", "Answer", "ask", "parse", "request"]

OK: Final = 200
PATIENCE_SECONDS: Final = 15
"""A request that is not answered by then is lost."""
READ_BYTES: Final = 65536

_CONTINUE: Final = 100


def request(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return an HTTP/1.1 request."""
    fields = {"host": "127.0.0.1", "content-length": str(len(body))}
    if body:
        fields["content-type"] = "application/json"
    fields |= {name.lower(): value for name, value in (headers or {}).items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


class Answer(NamedTuple):
    """An HTTP answer, its head as it came."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's value."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.encode():
                return value.strip().decode("latin-1")
        return None

    @property
    def closes(self) -> bool:
        """Whether the server takes no further request on this connection."""
        return b"close" in self.head and (self.header("connection") or "").lower() == "close"


def parse(data: bytes, *, ended: bool = False, bodiless: bool = False) -> Answer | None:
    """Return the answer in ``data``, or None while some of it is missing.

    Args:
        data: What was received.
        ended: Nothing more will come.
        bodiless: It answers a HEAD request.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    status = int(head[9:12])
    if status == _CONTINUE:
        return parse(body, ended=ended, bodiless=bodiless)
    lower = head.lower()
    _, length, rest = lower.partition(b"\r\ncontent-length:")
    if bodiless:
        complete = True
    elif length:
        complete = len(body) >= int(rest.partition(b"\r\n")[0])
    elif b"\r\ntransfer-encoding: chunked" in lower:
        complete = body.endswith(b"0\r\n\r\n")
    else:
        complete = ended
    return Answer(status, head, body) if complete else None


def ask(port: int, what: bytes, *, timeout: float = PATIENCE_SECONDS) -> Answer:
    """Send a request on a connection of its own and return the answer.

    Raises:
        OSError: The connection was refused or reset, or nothing came in time.
    """
    deadline = time.monotonic() + timeout
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(what)
        data = b""
        while True:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            chunk = connection.recv(READ_BYTES)
            data += chunk
            answer = parse(data, ended=not chunk, bodiless=what.startswith(b"HEAD "))
            if answer is not None:
                return answer
            if not chunk:
                raise ConnectionResetError("The server closed the connection without an answer.")
