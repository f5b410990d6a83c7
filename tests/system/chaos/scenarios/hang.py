"""A model that does not return."""

from __future__ import annotations

import time
from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING, Final

from tests.system.chaos.client import (
    ASK_HEALTH,
    Background,
    Pauses,
    Schedule,
    ask,
    percentile_ms,
    percentiles_ms,
)
from tests.system.chaos.report import Report

if TYPE_CHECKING:
    from tests.system.chaos.stage import Stage

__all__ = ["hang"]

RATE: Final = 20
BEFORE_SECONDS: Final = 2.0
SLACK_SECONDS: Final = 0.3
HEALTH_MS: Final = 50
# By so many times what the slowest answer took before the model hung, answers may be late.
FACTOR: Final = 5
HEALTH_EVERY_SECONDS: Final = 0.02
# What the service may take after the model has returned: the breaker's pause of 5 s, and probes.
RECOVERY_SECONDS: Final = 5 + 3
AFTER_SECONDS: Final = RECOVERY_SECONDS + 2


class Pulse(Background):
    """Asks for /health again and again, each time on a new connection.

    Attributes:
        beats: When it asked, when it was answered, and with which status; 0 is no answer.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self.beats: list[tuple[float, float, int]] = []
        self._port = port

    def work(self) -> None:
        """See ``Background``."""
        while not self.stopping.wait(HEALTH_EVERY_SECONDS):
            start = perf_counter()
            try:
                status = ask(self._port, ASK_HEALTH).status
            except OSError:
                status = 0
            self.beats.append((start, perf_counter(), status))


def hang(stage: Stage) -> Report:
    """A model that hangs: deadlines hold, later callers are refused, /health does not notice."""
    report = Report()
    seconds, deadline = (4, 1) if stage.quick else (30, 5)
    faults = stage.faults()
    with stage.serve("faulty", request_timeout_seconds=deadline) as server:
        pids = server.pids()
        length = BEFORE_SECONDS + seconds + AFTER_SECONDS
        load = Schedule(server.port, rate=RATE, seconds=length)
        with Pauses() as pauses, Pulse(server.port) as pulse, load:
            time.sleep(BEFORE_SECONDS)
            stage.say(f"the model hangs for {seconds} s")
            start = perf_counter()
            faults.inject(hang_until=time.time() + seconds)
            load.finish()
        restarted = server.pids() != pids
    end = start + seconds
    statuses = Counter(exchange.status for exchange in load.exchanges)
    late = load.with_status(504)
    refused = load.with_status(429, 503)
    recovered = [one for one in load.exchanges if one.due > end + RECOVERY_SECONDS]
    first = min((one.due for one in load.with_status(200) if one.due > end), default=None)
    calm = [one.seconds for one in load.exchanges if one.done < start]
    slack = SLACK_SECONDS + FACTOR * max(calm, default=0)
    calm_ms = percentile_ms((done - sent for sent, done, _ in pulse.beats if done < start), 100)
    beats = [done - sent - pauses.within(sent, done) for sent, done, _ in pulse.beats]
    slowest = percentile_ms(beats, 100)

    report.require(
        statuses.keys() <= {200, 429, 503, 504}, f"other answers (0: none): {dict(statuses)}"
    )
    report.require(late, "no accepted caller got a 504")
    report.require(
        all(
            abs(one.seconds - deadline) <= slack + pauses.within(one.sent, one.done) for one in late
        ),
        f"504 came between {percentile_ms((x.seconds for x in late), 0):.0f} and "
        f"{percentile_ms((x.seconds for x in late), 100):.0f} ms, not at {deadline} s",
    )
    report.require(
        all(one.seconds <= slack + pauses.within(one.sent, one.done) for one in refused),
        f"a refusal took {percentile_ms((x.seconds for x in refused), 100):.0f} ms",
    )
    report.require(all(one.retry_after for one in refused), "refusals had no Retry-After")
    report.require(
        not any(start + deadline < one.done < end for one in load.with_status(200)),
        "somebody was answered while the model hung, so it did not",
    )
    report.require(
        {status for _, _, status in pulse.beats} == {200}, "/health was not 200 throughout"
    )
    report.require(
        slowest < max(HEALTH_MS, FACTOR * calm_ms),
        f"/health once took {slowest:.0f} ms, and {calm_ms:.0f} ms at most before",
    )
    report.require(
        recovered and {one.status for one in recovered} == {200},
        f"{RECOVERY_SECONDS} s after the model returned there were answers "
        f"{dict(Counter(one.status for one in recovered))}",
    )
    report.require(not restarted, "a worker was started again")
    report.done = f"the model hangs for {seconds} s (deadline {deadline} s, {RATE} requests/s)"
    again = "never" if first is None else f"{first - end:.1f} s after it returned"
    report.came_back = (
        f"{len(late)} x 504 at {percentile_ms((one.seconds for one in late), 50):,.0f} ms, "
        f"{len(refused)} refused in {percentile_ms((one.seconds for one in refused), 50):.1f} ms "
        f"(medians); /health at most {slowest:.0f} ms; 200 again {again}"
    )
    report.figures = {
        "statuses": dict(statuses),
        "late_ms": percentiles_ms((one.seconds for one in late), 0, 50, 100),
        "refused_ms": percentiles_ms((one.seconds for one in refused), 50, 100),
        "health_ms": percentiles_ms(beats, 50, 99, 100),
        "recovered_after_s": None if first is None else round(first - end, 2),
    }
    return report
