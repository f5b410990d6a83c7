"""When to say no: an estimate of how long work will take, and a circuit breaker.

Neither knows what is being called. ``churn_serving.inference.batching`` asks both before it
accepts a row.
"""

from __future__ import annotations

from collections import deque
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from churn_serving.errors import BreakerOpenError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CLOSED",
    "HALF_OPEN",
    "OPEN",
    "BreakerState",
    "CircuitBreaker",
    "DurationEstimate",
    "Overrun",
]

BreakerState: TypeAlias = Literal["closed", "half_open", "open"]

CLOSED: Final[BreakerState] = "closed"
HALF_OPEN: Final[BreakerState] = "half_open"
OPEN: Final[BreakerState] = "open"


class DurationEstimate:
    """How long the next call will take, rather too long than too short.

    The mean of the latest calls plus twice their mean deviation, both smoothed exponentially, as
    TCP estimates when an answer is overdue (V. Jacobson, "Congestion Avoidance and Control", 1988).

    Args:
        seconds: What to begin with.
    """

    _GAIN: Final = 0.25

    def __init__(self, seconds: float = 0.0) -> None:
        self._mean = seconds
        self._deviation = 0.0

    def observe(self, seconds: float) -> None:
        """Take note of a call that ended."""
        error = seconds - self._mean
        self._mean += self._GAIN * error
        self._deviation += self._GAIN * (abs(error) - self._deviation)

    @property
    def seconds(self) -> float:
        """How long a call will take."""
        return self._mean + 2 * self._deviation

    def remaining(self, elapsed: float) -> float:
        """How much longer a call will take that began ``elapsed`` seconds ago.

        One that has taken longer than it should is expected to take as long again: all that is
        known of a model that hangs is for how long it has.
        """
        seconds = self.seconds
        return seconds - elapsed if elapsed <= seconds else elapsed


class Overrun:
    """How many times as long as foreseen work may take.

    The worst of late, which is forgotten slowly; but never less than ``LEAST``, for a model may
    slow down by half from one call to the next, when everybody in the queue has been accepted. A
    queue that is shorter for it costs no throughput: the next batch waits in it all the same.
    """

    LEAST: Final = 1.6
    _FORGETTING: Final = 0.999
    _LEAST_SECONDS: Final = 0.01

    def __init__(self) -> None:
        self.factor = self.LEAST

    def observe(self, seconds: float, foreseen: float) -> None:
        """Take note of work that has ended: what it took, and what it was to take."""
        # What is over at once is early or late by the machine's own hiccups.
        if foreseen > self._LEAST_SECONDS:
            least = self.LEAST
            forgotten = least + (self.factor - least) * self._FORGETTING
            self.factor = max(seconds / foreseen, forgotten)


class CircuitBreaker:
    """Leaves a failing model alone for a while, and then tries it with one call at a time.

    Closed, it counts: once at least ``failure_rate`` of the calls of the last ``window_seconds``
    have failed, and there were ``min_calls`` of them, it opens. Open, it lets nothing through for
    ``open_seconds``. Then it is half open: one call is let through, and another when that has
    succeeded; after ``PROBES`` successes it closes, after one failure it is open again.

    (M. Nygard, "Release It!". The maintained libraries, among them pybreaker, purgatory and
    circuitbreaker, count failures in a row, which says nothing about a model that fails six times
    out of ten.)

    The defaults are no settings, for nobody turns them: a model that fails every second time helps
    no caller, a minute is what an alert looks back on too, twenty calls tell a failing model from
    bad luck, and five seconds are soon over, but long enough for a model that swaps.

    Args:
        failure_rate: Share of failed calls, 0 to 1.
        window_seconds: Whole seconds that are looked back on.
        min_calls: Fewer calls than these say nothing.
        open_seconds: Time between two attempts at a model that fails.
        clock: Returns seconds.

    Attributes:
        state: What it is now.
        times_opened: How often it has opened.
    """

    PROBES: Final = 3

    def __init__(
        self,
        *,
        failure_rate: float = 0.5,
        window_seconds: int = 60,
        min_calls: int = 20,
        open_seconds: float = 5.0,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.state: BreakerState = CLOSED
        self.times_opened = 0
        self._failure_rate = failure_rate
        self._min_calls = min_calls
        self._open_seconds = open_seconds
        self._clock = clock
        self._window_seconds = window_seconds
        # Of each second of the window, the current one last.
        self._calls = deque([0] * window_seconds, maxlen=window_seconds)
        self._failures = deque([0] * window_seconds, maxlen=window_seconds)
        self._second_ends = int(clock()) + 1.0
        self._successes = 0
        self._next_probe = inf

    def admit(self) -> None:
        """Let a call through.

        A probe that never reports its end, because its caller has gone, is given up after
        ``open_seconds``.

        Raises:
            BreakerOpenError: The model is left alone.
        """
        if self.state is CLOSED:
            return
        if self.refuses:
            raise self.refusal()
        self.state = HALF_OPEN
        self._next_probe = self._clock() + self._open_seconds

    @property
    def refuses(self) -> bool:
        """Whether a call would be refused now: not while it waits for a probe."""
        return self.state is not CLOSED and self._clock() < self._next_probe

    def refusal(self) -> BreakerOpenError:
        """Return what a caller is told whose call is not made."""
        return BreakerOpenError(
            "The model has failed too often and is left alone for a moment.",
            retry_after=max(self._next_probe - self._clock(), 0.0),
        )

    def succeeded(self, now: float) -> None:
        """Take note of a call that went well, and ended at ``now``."""
        if self.state is CLOSED:
            # Every request comes along here, so it is one comparison and one addition.
            if now >= self._second_ends:
                self._next_second(now)
            self._calls[-1] += 1
        elif self.state is HALF_OPEN:
            self._successes += 1
            self._next_probe = now
            if self._successes >= self.PROBES:
                self._close(now)

    def failed(self, now: float) -> None:
        """Take note of a call that failed, and ended at ``now``."""
        if self.state is CLOSED:
            if now >= self._second_ends:
                self._next_second(now)
            self._calls[-1] += 1
            self._failures[-1] += 1
            calls = sum(self._calls)
            if calls >= self._min_calls and sum(self._failures) >= calls * self._failure_rate:
                self._open(now)
        elif self.state is HALF_OPEN:
            self._open(now)

    def _next_second(self, now: float) -> None:
        """Begin a new second; those that have left the window are forgotten."""
        gone = min(int(now - self._second_ends) + 1, self._window_seconds)
        self._calls.extend([0] * gone)
        self._failures.extend([0] * gone)
        self._second_ends = int(now) + 1.0

    def _close(self, now: float) -> None:
        self.state = CLOSED
        self._calls.extend([0] * self._window_seconds)
        self._failures.extend([0] * self._window_seconds)
        self._second_ends = int(now) + 1.0

    def _open(self, now: float) -> None:
        self.state = OPEN
        self.times_opened += 1
        self._successes = 0
        self._next_probe = now + self._open_seconds
