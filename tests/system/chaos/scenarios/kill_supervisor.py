"""The process that watches the workers is killed."""

from __future__ import annotations

import socket
import time
from time import perf_counter
from typing import TYPE_CHECKING, Final

import psutil

from tests.system.chaos.client import Callers
from tests.system.chaos.report import Report
from tests.system.chaos.server import START_SECONDS

if TYPE_CHECKING:
    from tests.system.chaos.stage import Stage

__all__ = ["kill_supervisor"]

WORKERS: Final = 2
PAUSES: Final = (0.0,) * 16
LOAD_SECONDS: Final = 0.5
DRAIN_SECONDS: Final = 1
# For the workers to notice, to drain and to end: as long as the server took to start, and these.
NOTICE_SECONDS: Final = 5


def kill_supervisor(stage: Stage) -> Report:
    """kill -9 of the supervisor: its workers drain and end, and leave the port to the next."""
    report = Report()
    stage.faults()
    begun = perf_counter()
    with stage.serve("faulty", workers=WORKERS, drain_delay_seconds=DRAIN_SECONDS) as server:
        server.await_ready(WORKERS)
        most = perf_counter() - begun + DRAIN_SECONDS + NOTICE_SECONDS
        workers = server.workers()
        try:
            with Callers(server.port, PAUSES, stay=False) as callers:
                time.sleep(LOAD_SECONDS)
                start = perf_counter()
                server.started.kill()
                server.started.wait()
                _, alive = psutil.wait_procs(workers, START_SECONDS)
                ended = round(perf_counter() - start, 2)
        finally:
            for worker in workers:
                if worker.is_running():
                    worker.kill()
    report.require(not alive, f"{len(alive)} workers went on without their supervisor")
    report.require(ended < most, f"the workers ended after {ended} s, not {most:.1f}")
    report.require(set(callers.statuses) == {200}, f"answers {dict(callers.statuses)}, not all 200")
    report.require(not callers.lost, f"{len(callers.lost)} requests in flight were lost")
    report.require(_is_free(server.port), "the port was still taken")
    report.done = f"kill -9 of the supervisor of {WORKERS} workers under {len(PAUSES)} connections"
    report.came_back = (
        f"{callers.statuses[200]:,} answered 200, {len(callers.lost)} lost; the workers ended and "
        f"the port was free after {ended:.1f} s"
    )
    report.figures = {"answered": callers.statuses[200], "ended_after_s": ended}
    return report


def _is_free(port: int) -> bool:
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
            door.listen()
        except OSError:
            return False
    return True
