"""Clients that hold connections and do not get on."""

from __future__ import annotations

import select
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final

from churn_serving.runtime.connections import HEADER_SECONDS
from tests.system.chaos.client import (
    ASK_HEALTH,
    ASK_PREDICTION,
    Background,
    Pauses,
    Schedule,
    parse,
    percentile_ms,
    percentiles_ms,
)
from tests.system.chaos.report import Report
from tests.system.chaos.server import START_SECONDS, wait_for

if TYPE_CHECKING:
    from tests.system.chaos.stage import Stage

__all__ = ["slow_clients"]

IDLE: Final = 1000
EACH: Final = 100
# Not a whole number of drips: a byte that crosses the answer resets the connection.
BODY_SECONDS: Final = 1.5
# How much later a busy machine may notice.
SLACK_SECONDS: Final = 0.5 * HEADER_SECONDS
DRIP_SECONDS: Final = 1.0
RATE: Final = 100
CALM_SECONDS: Final = 2
# Others may wait this much longer than before, by either measure.
FACTOR: Final = 5
SPARE_MS: Final = 25
SPARE_FDS: Final = 8
BODY_SHARE: Final = 0.9

_HEAD, _, _BODY = ASK_PREDICTION.partition(b"\r\n\r\n")


@dataclass(slots=True)
class _Life:
    """Of one connection: when it began, and how many bytes have dripped."""

    began: float
    connection: socket.socket
    sent: int = 0


class Slow(Background):
    """Connections that get no further than they must; one that ends is followed by another.

    Args:
        port: Of the server.
        first: Is sent at once.
        drip: Of this one more byte is sent each second.

    Attributes:
        lives: How long each connection was suffered.
        answers: What they were told in the end; 0 if they were just closed.
    """

    def __init__(self, port: int, first: bytes, drip: bytes = b"") -> None:
        super().__init__()
        self.lives: list[float] = []
        self.answers: Counter[int] = Counter()
        self._port = port
        self._first = first
        self._drip = drip
        self._epoll = select.epoll()
        self._open: dict[int, _Life] = {}

    @property
    def oldest(self) -> float:
        """How long any connection was suffered, those that are still open included."""
        now = perf_counter()
        return max([*self.lives, *(now - life.began for life in list(self._open.values()))])

    def work(self) -> None:
        """See ``Background``."""
        for _ in range(EACH):
            self._begin()
        while not self.stopping.is_set():
            for life in self._open.values():
                self._drip_on(life)
            for fd, _ in self._epoll.poll(0.05):
                self._end(fd)
        for life in self._open.values():
            life.connection.close()
        self._epoll.close()

    def _begin(self) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port))
        connection.sendall(self._first)
        self._open[connection.fileno()] = _Life(perf_counter(), connection)
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _drip_on(self, life: _Life) -> None:
        if perf_counter() - life.began >= DRIP_SECONDS * (life.sent + 1):
            byte = self._drip[life.sent : life.sent + 1]
            life.sent += 1
            with suppress(OSError):  # it has been closed, which is noticed next
                life.connection.send(byte)

    def _end(self, fd: int) -> None:
        life = self._open.pop(fd)
        self.lives.append(perf_counter() - life.began)
        try:
            answer = parse(life.connection.recv(4096), bodiless=True)  # the head will do
        except OSError:
            answer = None
        self.answers[answer.status if answer else 0] += 1
        life.connection.close()
        self._begin()


def slow_clients(stage: Stage) -> Report:
    """Dripping, half-open and idle connections: others do not notice, and the former are closed."""
    report = Report()
    seconds = 2 * HEADER_SECONDS if stage.quick else 60
    with stage.serve(request_timeout_seconds=BODY_SECONDS) as server, Pauses() as pauses:
        stage.say("other callers alone")
        calm = Schedule(server.port, rate=RATE, seconds=CALM_SECONDS)
        with calm:
            calm.finish()
        before = server.usage()
        stage.say(f"{IDLE:,} idle and {4 * EACH} slow connections for {seconds:.0f} s")
        idle = [_idle(server.port) for _ in range(IDLE)]
        others = Schedule(server.port, rate=RATE, seconds=seconds)
        with (
            Slow(server.port, _HEAD + b"\r\n\r\n", _BODY) as body,
            Slow(server.port, _HEAD[:20], _HEAD[20:]) as header,
            Slow(server.port, _HEAD + b"\r\n") as half,
            Slow(server.port, b"") as silent,
            others,
        ):
            others.finish()
            oldest = {"dripping": header.oldest, "half-open": half.oldest, "silent": silent.oldest}
        alive = sum(_still_answered(connection) for connection in idle)
        for connection in idle:
            connection.close()
        settled = wait_for(lambda: server.usage().fds <= before.fds + SPARE_FDS, START_SECONDS)
        after = server.usage()

    p99 = [
        percentile_ms((x.seconds - pauses.within(x.sent, x.done) for x in load.exchanges), 99)
        for load in (calm, others)
    ]
    statuses = Counter(exchange.status for exchange in others.exchanges)
    report.require(set(statuses) == {200}, f"other callers were answered {dict(statuses)}")
    report.require(
        p99[1] <= max(FACTOR * p99[0], p99[0] + SPARE_MS),
        f"other callers' p99 went from {p99[0]:.1f} to {p99[1]:.1f} ms",
    )
    for name, age in oldest.items():
        report.require(
            age < HEADER_SECONDS + SLACK_SECONDS, f"a {name} header was suffered for {age:.1f} s"
        )
    for name, slow in [("dripping", header), ("half-open", half), ("silent", silent)]:
        report.require(slow.lives, f"no connection with a {name} header was closed")
        report.require(
            not slow.lives or min(slow.lives) >= HEADER_SECONDS,
            f"a {name} header was given up after {min(slow.lives, default=0):.1f} s",
        )
        report.require(
            slow.answers.keys() <= {0, 408}, f"a {name} header was answered {dict(slow.answers)}"
        )
    report.require(
        body.answers.keys() <= {0, 408} and body.answers[408] >= BODY_SHARE * len(body.lives) > 0,
        f"bodies of 1 byte/s were answered {dict(body.answers)}",
    )
    report.require(alive == IDLE, f"only {alive} of {IDLE} idle connections were still served")
    report.require(
        settled is not None, f"descriptors went from {before.fds} to {after.fds} in the end"
    )
    lives = [*header.lives, *half.lives, *silent.lives]
    report.done = (
        f"{EACH} bodies and {EACH} headers at 1 byte/s, {EACH} half-open, {EACH} silent, "
        f"{IDLE:,} idle connections for {seconds:.0f} s"
    )
    report.came_back = (
        f"others' p99 {p99[0]:.1f} > {p99[1]:.1f} ms, {_words(statuses)}; {len(lives)} headers "
        f"closed after {percentile_ms(lives, 50):,.0f} ms (median), bodies {_words(body.answers)}; "
        f"{alive:,} idle ones served; descriptors {before.fds} > {after.fds}"
    )
    report.figures = {
        "others_p99_ms": p99,
        "others": dict(statuses),
        "header_lives_ms": {
            name: percentiles_ms(slow.lives, 0, 50, 100)
            for name, slow in [("dripping", header), ("half-open", half), ("silent", silent)]
        },
        "body_answers": dict(body.answers),
        "idle_served": alive,
        "fds": [before.fds, after.fds],
        "pss_mb": [before.pss_mb, after.pss_mb],
    }
    return report


def _words(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status or 'closed'}" for status, count in statuses.items())


def _idle(port: int) -> socket.socket:
    """Return a keep-alive connection that was used once."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    _still_answered(connection)
    return connection


def _still_answered(connection: socket.socket) -> bool:
    data = b""
    try:
        connection.sendall(ASK_HEALTH)
        while (answer := parse(data)) is None and (chunk := connection.recv(4096)):
            data += chunk
    except OSError:
        return False
    return answer is not None and answer.status == 200
