"""Many connections to one server, each with at most one request in flight, watched together."""

from __future__ import annotations

import select
import socket
from time import perf_counter
from typing import TYPE_CHECKING

from bench.load.answer import READ_BYTES, Answer, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Connection", "Crowd"]


class Connection:
    """One keep-alive connection.

    Attributes:
        socket: Does not block.
        due: When its request was to leave.
        sent: When it left; 0 while there is none.
        idle_since: When its last answer was complete.
        pause: Seconds it rests between requests.
    """

    __slots__ = ("due", "idle_since", "open", "pause", "received", "sent", "socket", "unsent")

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A refusal is noticed as soon as the connection is watched.
        self.socket.connect_ex(("127.0.0.1", port))
        self.open = True
        self.due = self.sent = self.idle_since = self.pause = 0.0
        self.received = self.unsent = b""


class Crowd:
    """The connections; iterating gives those that are open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}

    def __len__(self) -> int:
        return len(self._by_fd)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._by_fd.values()))

    def connect(self) -> Connection:
        """Open a connection."""
        connection = Connection(self._port)
        self._by_fd[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
        return connection

    def send(self, connection: Connection, what: bytes) -> None:
        """Send a request; once the connection is there, and once what was sent before has left."""
        connection.sent = perf_counter()
        what = connection.unsent + what
        try:
            sent = connection.socket.send(what)
        except BlockingIOError:
            sent = 0
        except OSError:  # whatever it is, it is noticed when the connection is watched
            return
        connection.unsent = what[sent:]
        if connection.unsent:
            self._watch(connection, select.EPOLLIN | select.EPOLLOUT)

    def answers(self, timeout: float) -> Iterator[tuple[Connection, Answer | None]]:
        """Wait for something to happen.

        Yields:
            Connections with their answer, or with None if they broke. A broken connection is
            closed already.
        """
        for fd, events in self._epoll.poll(timeout):
            connection = self._by_fd[fd]
            if events & select.EPOLLOUT:
                self._watch(connection, select.EPOLLIN)
                left_at = connection.sent
                self.send(connection, b"")
                connection.sent = left_at
                if not events & ~select.EPOLLOUT:
                    continue
            try:
                chunk = connection.socket.recv(READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                chunk = b""
            data = connection.received + chunk
            answer = parse(data, ended=not chunk)
            if answer is not None:
                connection.received = b""
                yield connection, answer
            elif chunk:
                connection.received = data
            else:
                self.close(connection)
                yield connection, None

    def close(self, connection: Connection) -> None:
        """Close a connection."""
        if connection.open:
            connection.open = False
            del self._by_fd[connection.socket.fileno()]
            connection.socket.close()

    def close_all(self) -> None:
        """Close everything."""
        for connection in self:
            self.close(connection)
        self._epoll.close()

    def _watch(self, connection: Connection, events: int) -> None:
        self._epoll.modify(connection.socket.fileno(), events | select.EPOLLRDHUP)
