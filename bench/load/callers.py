"""A closed loop: callers that ask again as soon as they were answered."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from heapq import heappop, heappush
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Final

from bench.load.answer import PATIENCE_SECONDS
from bench.load.background import Background
from bench.load.crowd import Crowd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.load.answer import Answer
    from bench.load.background import Pauses
    from bench.load.crowd import Connection

__all__ = ["Callers"]

_STEP_SECONDS: Final = 0.01
_COME_BACK_SECONDS: Final = 0.01
_LONGEST_GAPS: Final = 20


class Callers(Background):
    """Callers that send their next request as soon as the last one is answered.

    Args:
        port: Of the server, on this machine.
        pauses: One caller for each, which rests so many seconds between its requests.
        what: The request.
        stay: Whether a caller whose connection ended opens another.
        limit: Stop after that many answers.
        at_end: Called once nobody asks any more, while the last requests are in flight.
        patience: How many seconds the last answers are waited for.

    Attributes:
        statuses: How many answers of each status there were.
        lost: When requests were lost, because their connection broke or nothing came back.
        told: Callers whose last answer announced the end of the connection.
        answered: When the answers came.
        in_flight: How many requests were still to be answered at the end.
    """

    def __init__(
        self,
        port: int,
        pauses: Sequence[float],
        *,
        what: bytes,
        stay: bool = True,
        limit: int | None = None,
        at_end: Callable[[], object] | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        super().__init__()
        self.statuses: Counter[int] = Counter()
        self.lost: list[float] = []
        self.told = 0
        self.answered = array("d")
        self.in_flight = 0
        self._what = what
        self._stay = stay
        self._limit = limit
        self._at_end = at_end
        self._patience = patience
        self._ended = False
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
            if perf_counter() - last > self._patience:
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
        elif self._ended:
            self._crowd.close(connection)
        elif connection.pause:
            heappush(self._resting, (now + connection.pause, id(connection), connection))
        else:
            self._crowd.send(connection, self._what)

    def _leave(self, connection: Connection) -> None:
        self._crowd.close(connection)
        self._resting = [entry for entry in self._resting if entry[2].open]
        if self._stay and not self._ended:
            self._coming_back.append((perf_counter() + _COME_BACK_SECONDS, connection.pause))

    def _collect(self) -> None:
        """Wait for what is still to be answered."""
        for _, _, connection in self._resting:
            self._crowd.close(connection)
        self._ended = True
        self.stopping.set()
        self.in_flight = len(self._crowd)
        if self._at_end is not None:
            self._at_end()
        give_up = perf_counter() + self._patience
        while len(self._crowd) and (now := perf_counter()) < give_up:
            for connection, answer in self._crowd.answers(_STEP_SECONDS):
                self._take(connection, answer, now)
        self.lost += [perf_counter()] * len(self._crowd)
        self._crowd.close_all()
