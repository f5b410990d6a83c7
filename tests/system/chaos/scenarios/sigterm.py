"""The platform stops a server under load."""

from __future__ import annotations

import statistics
import time
from time import perf_counter
from typing import TYPE_CHECKING, Final

from tests.system.chaos.client import ASK_PREDICTION, ASK_READY, Background, Callers, ask
from tests.system.chaos.report import Report
from tests.system.chaos.server import START_SECONDS, wait_for

if TYPE_CHECKING:
    from tests.system.chaos.stage import Stage

__all__ = ["sigterm"]

# Busy callers and callers that think between two requests: a server must not close a connection
# that may be used again at any moment.
PAUSES: Final = (0.0,) * 24 + (0.05,) * 8
# In turn: a model that answers at once; one that has requests in flight and waiting; and one that
# is a service of its own, which must not be the first to go.
SETUPS: Final = (
    ("healthy", 1, "embedded"),
    ("faulty", 2, "embedded"),
    ("healthy", 1, "split"),
)
DRAIN_DELAY_SECONDS: Final = 1
TIMEOUT_SECONDS: Final = 3
LOAD_SECONDS: Final = 1.0
MODEL_SECONDS: Final = 0.02
PROBE_SECONDS: Final = 0.02
# What the settings allow the server; and for its processes to end, twice what they took to start.
DRAIN_SECONDS: Final = DRAIN_DELAY_SECONDS + TIMEOUT_SECONDS
START_FACTOR: Final = 2


class Platform(Background):
    """What Kubernetes does: ask for readiness, and send new connections where it is given.

    Attributes:
        seen: When it asked, and the status; 0 if the connection was refused or reset.
        turned_away: New callers that were sent to a ready server and did not get a 200.
        welcomed: Those that got one.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self.seen: list[tuple[float, int]] = []
        self.turned_away: list[str] = []
        self.welcomed = 0
        self._port = port

    def work(self) -> None:
        """See ``Background``."""
        while not self.stopping.wait(PROBE_SECONDS):
            start = perf_counter()
            status = self._status(ASK_READY)
            self.seen.append((start, status))
            if status == 200:
                found = self._status(ASK_PREDICTION)
                if found == 200:
                    self.welcomed += 1
                else:
                    self.turned_away.append(f"{found or 'no answer'}")
            if status == 0:
                return

    def first(self, status: int, since: float) -> float | None:
        """Return when it first saw a status, counted from a moment."""
        return next(
            (round(at - since, 3) for at, seen in self.seen if seen == status and at > since), None
        )

    def _status(self, what: bytes) -> int:
        try:
            return ask(self._port, what).status
        except OSError:
            return 0


def sigterm(stage: Stage) -> Report:
    """SIGTERM: every request that was accepted is answered, and the platform is warned first."""
    report = Report()
    rounds = len(SETUPS) if stage.quick else 20
    requests, welcomed = 0, 0
    warned, stopped = [], []
    for number in range(1, rounds + 1):
        stage.say(f"round {number} of {rounds}")
        model, workers, topology = SETUPS[(number - 1) % len(SETUPS)]
        stage.faults().inject(sleep=MODEL_SECONDS)
        begun = perf_counter()
        with stage.serve(
            model,
            workers=workers,
            topology=topology,
            drain_delay_seconds=DRAIN_DELAY_SECONDS,
            request_timeout_seconds=TIMEOUT_SECONDS,
        ) as server:
            wait_for(lambda: server.metric("ml_workers_ready") == workers, START_SECONDS)  # noqa: B023 - called at once
            most = DRAIN_SECONDS + START_FACTOR * (perf_counter() - begun)
            with Callers(server.port, PAUSES, stay=False) as callers, Platform(server.port) as k8s:
                time.sleep(LOAD_SECONDS)
                start = perf_counter()
                code = server.stop()
                stopped.append(round(perf_counter() - start, 2))
        unanswered, refused = k8s.first(503, start), k8s.first(0, start)
        here = f"round {number} ({model}, {workers} workers, {topology})"
        report.require(code == 0, f"{here}: exit code {code}")
        report.require(
            set(callers.statuses) == {200}, f"{here}: answers {dict(callers.statuses)}, not all 200"
        )
        report.require(not callers.lost, f"{here}: {len(callers.lost)} requests were lost")
        report.require(
            callers.told == len(PAUSES),
            f"{here}: {callers.told} of {len(PAUSES)} connections were told that they end",
        )
        report.require(
            unanswered is not None and (refused is None or unanswered < refused),
            f"{here}: readiness was 503 after {unanswered} s, and a connection refused after "
            f"{refused} s",
        )
        report.require(
            not k8s.turned_away,
            f"{here}: new callers of a ready server got {', '.join(k8s.turned_away)}",
        )
        report.require(
            stopped[-1] < most, f"{here}: it took {stopped[-1]} s to stop, not {most:.1f}"
        )
        requests += callers.statuses.total()
        welcomed += k8s.welcomed
        warned.append(unanswered or 0.0)
    report.done = f"{rounds} x SIGTERM under {len(PAUSES)} keep-alive connections"
    report.came_back = (
        f"{requests:,} requests and {welcomed:,} on new connections answered 200, 0 lost; "
        f"readiness 503 after {statistics.median(warned) * 1e3:.0f} ms (median), exit 0 after "
        f"{statistics.median(stopped):.1f} s"
        if not report.failures
        else f"{len(report.failures)} complaints in {rounds} rounds"
    )
    report.figures = {
        "requests": requests,
        "new_connections": welcomed,
        "readiness_503_after_s": warned,
        "stopped_after_s": stopped,
    }
    return report
