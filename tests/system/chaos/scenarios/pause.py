"""The whole service is stopped for a while, as a laptop's sleep or a snapshot of a machine does."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Final

import psutil

from tests.system.chaos.client import ASK_HEALTH, ASK_PREDICTION, ask
from tests.system.chaos.report import Report

if TYPE_CHECKING:
    from tests.system.chaos.stage import Stage

__all__ = ["pause"]

PAUSE_SECONDS: Final = 8
LOOKS: Final = 20


def pause(stage: Stage) -> Report:
    """SIGSTOP for 8 s: nobody is taken for dead because nobody looked."""
    report = Report()
    rounds = (1,) if stage.quick else (1, 2)
    seen: list[int] = []
    for workers in rounds:
        with stage.serve(workers=workers) as server:
            server.await_ready(workers)
            before = server.pids()
            group = [psutil.Process(server.started.pid), *server.workers()]
            stage.say(f"{workers} workers paused")
            for process in group:
                process.send_signal(signal.SIGSTOP)
            time.sleep(PAUSE_SECONDS)
            for process in group:
                process.send_signal(signal.SIGCONT)
            for _ in range(LOOKS):
                seen.append(ask(server.port, ASK_HEALTH).status)
                time.sleep(0.1)
            predicted = ask(server.port, ASK_PREDICTION).status
            report.require(predicted == 200, f"{workers} workers: a prediction got {predicted}")
            report.require(server.pids() == before, f"{workers} workers: one was replaced")
    report.require(set(seen) == {200}, f"liveness after the pause: {seen}")
    report.done = f"SIGSTOP of all processes for {PAUSE_SECONDS} s, {len(rounds)} times"
    report.came_back = f"liveness {seen[0]} at the first of {len(seen)} looks; no worker replaced"
    report.figures = {"liveness": seen}
    return report
