"""An open loop: requests that leave when they are due, whether or not the last was answered."""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from bench.load.answer import OK, PATIENCE_SECONDS
from bench.load.background import Background
from bench.load.crowd import Crowd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench.load.answer import Answer
    from bench.load.crowd import Connection

__all__ = ["Exchange", "Schedule", "percentile_ms", "percentiles_ms"]

_STEP_SECONDS: Final = 0.01
_PAUSE_SECONDS: Final = 0.002


def percentiles_ms(seconds: Iterable[float], *percents: float) -> list[float]:
    """Return percentiles in milliseconds, and none of nothing."""
    values = np.fromiter(seconds, np.float64)
    if not len(values):
        return []
    return [round(float(value) * 1e3, 2) for value in np.percentile(values, percents)]


def percentile_ms(seconds: Iterable[float], percent: float) -> float:
    """Return a percentile in milliseconds, and NaN of nothing."""
    return (percentiles_ms(seconds, percent) or [float("nan")])[0]


class Exchange(NamedTuple):
    """What became of one request.

    Attributes:
        due: When it was to leave.
        sent: When it left.
        done: When its answer was complete, or its connection broke.
        status: Of the answer; 0 if there was none.
        retry_after: That header of the answer.
        lag: What the client was late by itself; to wait for a free connection is not.
    """

    due: float
    sent: float
    done: float
    status: int
    retry_after: str | None
    lag: float

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
        what: The requests, sent in turn.
        most: How many connections there may be; a request that is due waits for a free one.
        spin: Look again and again instead of waiting: for a client that has a core of its own.
        take: Told what became of each request, instead of keeping it in ``exchanges``.

    Attributes:
        exchanges: What became of each request.
        connections: The most that were open at once.
        began: When the first request was due.
        unsent: Requests that never left.
        pauses: When a client that spins got no CPU, from and to.
    """

    def __init__(
        self,
        port: int,
        *,
        rate: float,
        seconds: float,
        what: Sequence[bytes],
        most: int | None = None,
        spin: bool = False,
        take: Callable[[Exchange], object] | None = None,
    ) -> None:
        super().__init__()
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self.began = 0.0
        self.pauses: list[tuple[float, float]] = []
        self._rate = rate
        self.unsent = round(rate * seconds)
        self._what = what
        self._most = most
        self._spin = spin
        self._record = take or self.exchanges.append
        self._crowd = Crowd(port)
        self._idle: deque[Connection] = deque()
        self._waiting = 0

    def work(self) -> None:
        """See ``Background``."""
        self.began = last = perf_counter()
        total = self.unsent
        give_up = self.began + total / self._rate + PATIENCE_SECONDS
        while self.unsent or self._waiting:
            now = perf_counter()
            if self._spin and now - last > _PAUSE_SECONDS:
                self.pauses.append((last, now))
            last = now
            if now > give_up or (self.stopping.is_set() and self.unsent):
                break
            due = self._send_what_is_due(total, now)
            wait = 0.0 if self._spin else min(max(due - now, 0), _STEP_SECONDS)
            for connection, answer in self._crowd.answers(wait):
                self._take(connection, answer)
        now = perf_counter()
        for connection in self._crowd:
            if connection.sent:
                lag = connection.sent - max(connection.due, connection.idle_since)
                self._record(Exchange(connection.due, connection.sent, now, 0, None, lag))
        self._crowd.close_all()

    def with_status(self, *statuses: int) -> list[Exchange]:
        """Return the exchanges that ended so."""
        return [exchange for exchange in self.exchanges if exchange.status in statuses]

    def _send_what_is_due(self, total: int, now: float) -> float:
        """Return when the next request is due."""
        while self.unsent:
            due = self.began + (total - self.unsent) / self._rate
            if due > now or (connection := self._free()) is None:
                return due
            connection.due = due
            self._crowd.send(connection, self._what[(total - self.unsent) % len(self._what)])
            self.unsent -= 1
            self._waiting += 1
        return now + _STEP_SECONDS

    def _free(self) -> Connection | None:
        while self._idle:
            if (idle := self._idle.popleft()).open:
                return idle
        if self._most is not None and len(self._crowd) >= self._most:
            return None
        connection = self._crowd.connect()
        self.connections = max(self.connections, len(self._crowd))
        return connection

    def _take(self, connection: Connection, answer: Answer | None) -> None:
        now = perf_counter()
        if connection.sent:
            status = answer.status if answer else 0
            retry_after = None if answer is None or status == OK else answer.header("retry-after")
            lag = connection.sent - max(connection.due, connection.idle_since)
            self._record(Exchange(connection.due, connection.sent, now, status, retry_after, lag))
            self._waiting -= 1
        connection.sent = 0.0
        connection.idle_since = now
        if answer is None or answer.closes:
            self._crowd.close(connection)
        else:
            self._idle.append(connection)
