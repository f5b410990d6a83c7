"""Clients on raw sockets: what they send, when, and what became of it, byte by byte.

Every connection carries one request at a time. ``Callers`` send their next request as soon as the
last one is answered (a closed loop); a ``Schedule`` sends when requests are due, whether or not
others were answered (an open loop). Both run in threads of their own.
"""

from __future__ import annotations

import json
import select
import socket
import time
from array import array
from collections import Counter, deque
from heapq import heappop, heappush
from itertools import pairwise
from threading import Event, Thread
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np

from tests.bad_requests import CUSTOMER, PREDICT
from tests.system.chaos.report import ChaosError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "ASK_HEALTH",
    "ASK_PREDICTION",
    "ASK_READY",
    "Answer",
    "Background",
    "Callers",
    "Connection",
    "Crowd",
    "Exchange",
    "Pauses",
    "Schedule",
    "ask",
    "parse",
    "percentile_ms",
    "percentiles_ms",
    "request",
]

PATIENCE_SECONDS: Final = 15
"""A request that is not answered by then is lost."""

_READ_BYTES: Final = 65536
_STEP_SECONDS: Final = 0.01
_COME_BACK_SECONDS: Final = 0.01
_CONTINUE: Final = 100
_LONGEST_GAPS: Final = 20


def request(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return an HTTP/1.1 request."""
    fields = {"host": "chaos", "content-length": str(len(body))}
    if body:
        fields["content-type"] = "application/json"
    fields |= {name.lower(): value for name, value in (headers or {}).items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


ASK_PREDICTION: Final = request("POST", PREDICT, json.dumps(CUSTOMER).encode())
ASK_HEALTH: Final = request("GET", "/health")
ASK_READY: Final = request("GET", "/health/ready")


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
            chunk = connection.recv(_READ_BYTES)
            data += chunk
            answer = parse(data, ended=not chunk, bodiless=what.startswith(b"HEAD "))
            if answer is not None:
                return answer
            if not chunk:
                raise ConnectionResetError("The server closed the connection without an answer.")


def percentiles_ms(seconds: Iterable[float], *percents: float) -> list[float]:
    """Return percentiles in milliseconds, and none of nothing."""
    values = np.fromiter(seconds, np.float64)
    if not len(values):
        return []
    return [round(float(value) * 1e3, 2) for value in np.percentile(values, percents)]


def percentile_ms(seconds: Iterable[float], percent: float) -> float:
    """Return a percentile in milliseconds, and NaN of nothing."""
    return (percentiles_ms(seconds, percent) or [float("nan")])[0]


class Background(Thread):
    """Work in a thread, from the beginning of a ``with`` block to its end; errors come out."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopping = Event()
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> None:
        """Do the work; part of ``Thread``."""
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - raised again where it is noticed
            self._error = error

    def work(self) -> None:
        """Go on until ``stopping`` is set, or until all is done."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ask the work to end, and wait until it has."""
        self.stopping.set()
        self.finish()

    def finish(self) -> None:
        """Wait until the work has ended by itself."""
        self.join()
        if self._error is not None:
            raise ChaosError(f"The client failed: {self._error!r}") from self._error


class Pauses(Background):
    """Notices when this process gets no CPU, so that the server is not blamed for it."""

    TICK: Final = 0.002
    LATE: Final = 0.005

    def __init__(self) -> None:
        super().__init__()
        self._gaps: list[tuple[float, float]] = []

    def work(self) -> None:
        """See ``Background``."""
        last = perf_counter()
        while not self.stopping.is_set():
            time.sleep(self.TICK)
            now = perf_counter()
            if now - last > self.TICK + self.LATE:
                self._gaps.append((last, now))
            last = now

    def within(self, start: float, end: float) -> float:
        """Return the seconds of an interval that were lost to pauses."""
        return sum(max(0.0, min(end, b) - max(start, a)) for a, b in self._gaps)


class Connection:
    """One keep-alive connection.

    Attributes:
        socket: Does not block.
        due: When its request was to leave.
        sent: When it left; 0 while there is none.
        pause: Seconds it rests between requests.
    """

    __slots__ = ("due", "open", "pause", "received", "sent", "socket", "unsent")

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A refusal is noticed as soon as the connection is watched.
        self.socket.connect_ex(("127.0.0.1", port))
        self.open = True
        self.due = self.sent = self.pause = 0.0
        self.received = self.unsent = b""


class Crowd:
    """Many connections, watched together."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}

    def __len__(self) -> int:
        return len(self._by_fd)

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
                chunk = connection.socket.recv(_READ_BYTES)
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
        for connection in list(self._by_fd.values()):
            self.close(connection)
        self._epoll.close()

    def _watch(self, connection: Connection, events: int) -> None:
        self._epoll.modify(connection.socket.fileno(), events | select.EPOLLRDHUP)


class Callers(Background):
    """Callers that send their next request as soon as the last one is answered.

    Args:
        port: Of the server, on this machine.
        pauses: One caller for each, which rests so many seconds between its requests.
        what: The request.
        stay: Whether a caller whose connection ended opens another.
        limit: Stop after that many answers.

    Attributes:
        statuses: How many answers of each status there were.
        lost: When requests were lost, because their connection broke or nothing came back.
        told: Callers whose last answer announced the end of the connection.
        answered: When the answers came.
    """

    def __init__(
        self,
        port: int,
        pauses: Sequence[float],
        *,
        what: bytes = ASK_PREDICTION,
        stay: bool = True,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        self.statuses: Counter[int] = Counter()
        self.lost: list[float] = []
        self.told = 0
        self.answered = array("d")
        self._what = what
        self._stay = stay
        self._limit = limit
        self._pauses = pauses
        self._crowd = Crowd(port)
        self._resting: list[tuple[float, int, Connection]] = []
        self._coming_back: deque[tuple[float, float]] = deque()

    def work(self) -> None:
        """See ``Background``."""
        crowd = self._crowd
        for pause in self._pauses:
            self._call(pause)
        last = perf_counter()
        while (len(crowd) or self._coming_back) and not self._done():
            while self._coming_back and self._coming_back[0][0] <= perf_counter():
                self._call(self._coming_back.popleft()[1])
            while self._resting and self._resting[0][0] <= perf_counter():
                crowd.send(heappop(self._resting)[2], self._what)
            wait = self._resting[0][0] - perf_counter() if self._resting else _STEP_SECONDS
            for connection, answer in crowd.answers(min(max(wait, 0), _STEP_SECONDS)):
                last = perf_counter()
                self._take(connection, answer, last)
            if perf_counter() - last > PATIENCE_SECONDS:
                break
        self._collect()

    def longest_gap(self, start: float, end: float, pauses: Pauses) -> float:
        """Return the longest time between two answers, this client's own pauses left out."""
        inside = [start, *(moment for moment in self.answered if start < moment < end), end]
        gaps = sorted(pairwise(inside), key=lambda gap: gap[1] - gap[0])[-_LONGEST_GAPS:]
        return max(b - a - pauses.within(a, b) for a, b in gaps)

    def _done(self) -> bool:
        return self.stopping.is_set() or (
            self._limit is not None and len(self.answered) >= self._limit
        )

    def _call(self, pause: float) -> None:
        connection = self._crowd.connect()
        connection.pause = pause
        self._crowd.send(connection, self._what)

    def _take(self, connection: Connection, answer: Answer | None, now: float) -> None:
        if answer is None:
            if connection.sent:
                self.lost.append(now)
            self._leave(connection)
            return
        self.answered.append(now)
        self.statuses[answer.status] += 1
        connection.sent = 0.0
        if answer.closes:
            self.told += 1
            self._leave(connection)
        elif self._done():
            self._crowd.close(connection)
        elif connection.pause:
            heappush(self._resting, (now + connection.pause, id(connection), connection))
        else:
            self._crowd.send(connection, self._what)

    def _leave(self, connection: Connection) -> None:
        self._crowd.close(connection)
        self._resting = [entry for entry in self._resting if entry[2].open]
        if self._stay and not self._done():
            self._coming_back.append((perf_counter() + _COME_BACK_SECONDS, connection.pause))

    def _collect(self) -> None:
        """Wait for what is still to be answered."""
        for _, _, connection in self._resting:
            self._crowd.close(connection)
        self._stay = False
        self.stopping.set()
        give_up = perf_counter() + PATIENCE_SECONDS
        while len(self._crowd) and (now := perf_counter()) < give_up:
            for connection, answer in self._crowd.answers(_STEP_SECONDS):
                self._take(connection, answer, now)
        self.lost += [perf_counter()] * len(self._crowd)
        self._crowd.close_all()


class Exchange(NamedTuple):
    """What became of one request.

    Attributes:
        due: When it was to leave.
        sent: When it left.
        done: When its answer was complete, or its connection broke.
        status: Of the answer; 0 if there was none.
        retry_after: That header of the answer.
    """

    due: float
    sent: float
    done: float
    status: int
    retry_after: str | None

    @property
    def seconds(self) -> float:
        """How long the answer took."""
        return self.done - self.sent


class Schedule(Background):
    """Requests that leave when they are due, on an idle connection or else on a new one.

    Args:
        port: Of the server, on this machine.
        rate: Requests per second.
        seconds: For how long.
        what: The request.

    Attributes:
        exchanges: What became of each request.
        connections: The most that were open at once.
    """

    def __init__(
        self, port: int, *, rate: float, seconds: float, what: bytes = ASK_PREDICTION
    ) -> None:
        super().__init__()
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self.began = 0.0
        self._rate = rate
        self._total = round(rate * seconds)
        self._what = what
        self._crowd = Crowd(port)
        self._idle: list[Connection] = []

    def work(self) -> None:
        """See ``Background``."""
        self.began = perf_counter()
        give_up = self.began + self._total / self._rate + PATIENCE_SECONDS
        sent = 0
        while sent < self._total or len(self.exchanges) < sent:
            now = perf_counter()
            if now > give_up or (self.stopping.is_set() and sent < self._total):
                break
            while sent < self._total and (due := self.began + sent / self._rate) <= now:
                self._send(due)
                sent += 1
            wait = self.began + sent / self._rate - now if sent < self._total else _STEP_SECONDS
            for connection, answer in self._crowd.answers(min(max(wait, 0), _STEP_SECONDS)):
                self._take(connection, answer)
        now = perf_counter()
        self.exchanges += [
            Exchange(connection.due, connection.sent, now, 0, None)
            for connection in self._crowd._by_fd.values()
            if connection.sent
        ]
        self._crowd.close_all()

    def with_status(self, *statuses: int) -> list[Exchange]:
        """Return the exchanges that ended so."""
        return [exchange for exchange in self.exchanges if exchange.status in statuses]

    def _send(self, due: float) -> None:
        connection = None
        while self._idle and connection is None:
            idle = self._idle.pop()
            connection = idle if idle.open else None
        if connection is None:
            connection = self._crowd.connect()
            self.connections = max(self.connections, len(self._crowd))
        connection.due = due
        self._crowd.send(connection, self._what)

    def _take(self, connection: Connection, answer: Answer | None) -> None:
        if connection.sent:
            status = answer.status if answer else 0
            retry_after = None if answer is None or status == 200 else answer.header("retry-after")
            self.exchanges.append(
                Exchange(connection.due, connection.sent, perf_counter(), status, retry_after)
            )
        connection.sent = 0.0
        if answer is None or answer.closes:
            self._crowd.close(connection)
        else:
            self._idle.append(connection)
