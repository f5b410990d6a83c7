"""An open-loop client: requests leave when they are due, whether or not the last was answered.

Latency counts from the moment a request was due, so a server that stalls is charged for every
request that had to wait for it. The client spins on a core of its own with garbage collection off;
what it is late by itself is reported beside the latencies.

``benchmarks.soak`` starts it; it prints one JSON document.
"""

from __future__ import annotations

import argparse
import gc
import json
import select
import socket
import sys
from array import array
from collections import deque
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

SLOW_SECONDS: Final = 0.050
"""An answer that takes longer is counted as slow."""

_GAP_SECONDS: Final = 0.002
_GIVE_UP_SECONDS: Final = 10
_READ_BYTES: Final = 65536
_OK: Final = b"200"
_PERCENTILES: Final = {"p50_ms": 50, "p99_ms": 99, "p99_9_ms": 99.9, "max_ms": 100}


class Connection:
    """One keep-alive connection with at most one request in flight.

    Attributes:
        due: When its request was to leave.
        idle_since: When its last answer was complete.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self.idle_since = 0.0
        self._read = b""

    def receive(self) -> bytes | None:
        """Return the status of a complete answer, or None while some of it is missing.

        Raises:
            ConnectionError: The server closed the connection.
        """
        chunk = self.socket.recv(_READ_BYTES)
        if not chunk:
            raise ConnectionResetError("The server closed the connection.")
        self._read += chunk
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not end:
            return None
        _, found, rest = head.lower().partition(b"\r\ncontent-length:")
        if found:
            complete = len(body) >= int(rest.partition(b"\r\n")[0])
        else:  # in chunks, of which the last one is empty
            complete = body.endswith(b"0\r\n\r\n")
        if not complete:
            return None
        self._read = b""
        return head[9:12]


class Pacer:
    """Sends at a fixed rate and remembers when each answer came.

    Args:
        port: Of the server, on this machine.
        path: The route.
        bodies: JSON documents, sent in turn.
        connections: Requests that may be in flight.
    """

    def __init__(self, *, port: int, path: str, bodies: list[bytes], connections: int) -> None:
        self._requests = [
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
            for body in bodies
        ]
        self._port = port
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}
        self._idle: deque[Connection] = deque()
        for _ in range(connections):
            self._connect()
        self._record_from = 0.0
        self._latencies = array("d")
        self._lags = array("d")
        self._gaps: list[tuple[float, float]] = []
        self._slow: list[tuple[float, float]] = []
        self._errors = 0

    def run(self, *, rate: float, seconds: float, warm_up: float) -> None:
        """Send ``rate`` requests a second; those of the first ``warm_up`` seconds do not count."""
        start = last = perf_counter()
        self._record_from = start + warm_up
        give_up = start + warm_up + seconds + _GIVE_UP_SECONDS
        total = round(rate * (warm_up + seconds))
        sent = 0
        while sent < total or len(self._idle) < len(self._by_fd):
            now = perf_counter()
            if now - last > _GAP_SECONDS and last > self._record_from:
                self._gaps.append((last, now))
            if now > give_up:
                self._errors += total - sent + len(self._by_fd) - len(self._idle)
                return
            last = now
            while self._idle and sent < total and (due := start + sent / rate) <= now:
                self._send(self._requests[sent % len(self._requests)], due)
                sent += 1
            for fd, _ in self._epoll.poll(0):
                self._receive(self._by_fd[fd])

    def summary(self) -> dict[str, Any]:
        """Return the figures."""
        by_the_client = sum(
            end - due - sum(max(0.0, min(end, b) - max(due, a)) for a, b in self._gaps)
            <= SLOW_SECONDS
            for due, end in self._slow
        )
        longest = max((end - start for start, end in self._gaps), default=0.0)
        return {
            "answers": len(self._latencies),
            "errors": self._errors,
            "latency": _percentiles(self._latencies),
            "over_50_ms": len(self._slow),
            "over_1_s": sum(end - due > 1 for due, end in self._slow),
            "over_50_ms_because_the_client_paused": by_the_client,
            "client_lag": _percentiles(self._lags),
            "client_pauses_over_2_ms": len(self._gaps),
            "client_longest_pause_ms": longest * 1e3,
        }

    def _send(self, request: bytes, due: float) -> None:
        connection = self._idle.popleft()
        connection.due = due
        if due >= self._record_from:
            # Waiting for a free connection is the server's doing, the rest is the client's.
            self._lags.append(perf_counter() - max(due, connection.idle_since))
        connection.socket.send(request)

    def _receive(self, connection: Connection) -> None:
        try:
            status = connection.receive()
        except (ConnectionError, ValueError):
            self._errors += 1
            self._drop(connection)
            return
        if status is None:
            return
        now = perf_counter()
        self._errors += status != _OK
        if connection.due >= self._record_from:
            self._latencies.append(now - connection.due)
            if now - connection.due > SLOW_SECONDS:
                self._slow.append((connection.due, now))
        connection.idle_since = now
        self._idle.append(connection)

    def _connect(self) -> None:
        connection = Connection(self._port)
        self._by_fd[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
        self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        fd = connection.socket.fileno()
        self._epoll.unregister(fd)
        del self._by_fd[fd]
        connection.socket.close()
        self._connect()


def _percentiles(seconds: array[float]) -> dict[str, float]:
    if not seconds:
        return {}
    values = np.percentile(np.frombuffer(seconds), list(_PERCENTILES.values())) * 1e3
    return dict(zip(_PERCENTILES, (round(float(value), 4) for value in values), strict=True))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacer", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--bodies", type=Path, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, required=True)
    options = parser.parse_args()
    pacer = Pacer(
        port=options.port,
        path=options.path,
        bodies=options.bodies.read_bytes().splitlines(),
        connections=options.connections,
    )
    gc.collect()
    gc.disable()
    pacer.run(rate=options.rate, seconds=options.seconds, warm_up=options.warm_up)
    json.dump(pacer.summary(), sys.stdout)


if __name__ == "__main__":
    main()
