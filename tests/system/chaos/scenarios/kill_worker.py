"""A worker is killed under load."""

from __future__ import annotations

import statistics
import time
from time import perf_counter
from typing import TYPE_CHECKING, Final

import psutil

from tests.system.chaos.client import Callers, Pauses
from tests.system.chaos.report import ChaosError, Report
from tests.system.chaos.server import START_SECONDS, wait_for

if TYPE_CHECKING:
    from tests.system.chaos.server import Server
    from tests.system.chaos.stage import Stage

__all__ = ["kill_worker"]

WORKERS: Final = 2
PAUSES: Final = (0.0,) * 32
LOAD_SECONDS: Final = 0.5
# A worker comes back under load, and the server was started without: it may take so many times
# as long. While it is away the other one answers: nobody waits for half of that time.
START_FACTOR: Final = 3
GAP_SHARE: Final = 0.5


def kill_worker(stage: Stage) -> Report:
    """kill -9 of a worker: the others go on, only its own requests fail, and it comes back."""
    report = Report()
    kills = 2 if stage.quick else 10
    gaps, lost, held, back = [], [], [], []
    # A model of 2 ms, so that requests are in flight.
    stage.faults()
    start = perf_counter()
    with stage.serve("faulty", workers=WORKERS) as server:
        if wait_for(lambda: _all_ready(server), START_SECONDS) is None:
            raise ChaosError(f"ml_workers_ready did not reach {WORKERS}.")
        most = START_FACTOR * (perf_counter() - start)
        with Callers(server.port, PAUSES) as callers, Pauses() as pauses:
            for number in range(1, kills + 1):
                stage.say(f"kill {number} of {kills}")
                time.sleep(LOAD_SECONDS)
                before = len(callers.lost)
                # The one that most callers are connected to: the others hardly notice.
                connections, victim = max(
                    ((_connections(server, worker), worker) for worker in server.workers()),
                    key=lambda pair: pair[0],
                )
                start = perf_counter()
                victim.kill()
                victim.wait()
                waited = wait_for(lambda: _all_ready(server), START_SECONDS)
                time.sleep(LOAD_SECONDS)
                end = perf_counter()
                held.append(connections)
                back.append(waited or float(START_SECONDS))
                lost.append(len(callers.lost) - before)
                gaps.append(round(callers.longest_gap(start, end, pauses), 3))
                here = f"kill {number}"
                report.require(connections, f"{here}: nobody was connected to the worker")
                report.require(
                    lost[-1] <= connections,
                    f"{here}: {lost[-1]} requests failed, of {connections} connections",
                )
                report.require(
                    back[-1] < most,
                    f"{here}: the worker was back after {back[-1]} s, not in {most:.1f} s, "
                    f"{START_FACTOR} times what the server took to start",
                )
                report.require(
                    gaps[-1] < GAP_SHARE * back[-1],
                    f"{here}: nobody was answered for {gaps[-1]} of {back[-1]} s",
                )
    report.require(set(callers.statuses) == {200}, f"answers {dict(callers.statuses)}, not all 200")
    report.require(len(callers.lost) == sum(lost), "requests failed after the worker was back")
    report.done = f"{kills} x kill -9 of a worker of {WORKERS} under {len(PAUSES)} connections"
    report.came_back = (
        f"worker back after {statistics.median(back):.1f} s (longest {max(back):.1f}); "
        f"{callers.statuses[200]:,} answered 200, {sum(lost)} failed of {sum(held)} connections of "
        f"killed workers; longest silence {max(gaps) * 1e3:.0f} ms"
    )
    report.figures = {
        "answered": callers.statuses[200],
        "connections_of_killed": held,
        "failed": lost,
        "back_after_s": back,
        "longest_silence_s": gaps,
    }
    return report


def _all_ready(server: Server) -> bool:
    return len(server.workers()) == WORKERS and server.metric("ml_workers_ready") == WORKERS


def _connections(server: Server, worker: psutil.Process) -> int:
    return sum(
        connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == server.port
        for connection in worker.net_connections("tcp")
    )
