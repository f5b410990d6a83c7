"""An operator sends SIGHUP under load, to serve a model that was registered meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

import bentoml

from tests.system.chaos.client import ASK_PREDICTION, Background, Callers, Pauses, ask, request
from tests.system.chaos.model import register_models
from tests.system.chaos.report import Report
from tests.system.chaos.server import START_SECONDS, wait_for

if TYPE_CHECKING:
    from tests.system.chaos.server import Server
    from tests.system.chaos.stage import Stage

__all__ = ["reload"]

PAUSES: Final = (0.0,) * 16 + (0.05,) * 8
LOAD_SECONDS: Final = 0.5
# Beside the load, a worker may take so many times as long to start as the server did without.
START_FACTOR: Final = 4
_MODEL: Final = request("GET", "/metrics/model")


class Newcomers(Background):
    """Callers who open a connection for each request.

    Attributes:
        answered: How many got 200.
        failed: What became of the others.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self.answered = 0
        self.failed: list[str] = []
        self._port = port

    def work(self) -> None:
        """See ``Background``."""
        while not self.stopping.is_set():
            try:
                status = ask(self._port, ASK_PREDICTION).status
            except OSError as error:
                self.failed.append(repr(error))
            else:
                if status == 200:
                    self.answered += 1
                else:
                    self.failed.append(str(status))


def reload(stage: Stage) -> Report:
    """SIGHUP: workers are replaced one by one, no request is lost, the new model answers."""
    report = Report()
    requests, took, gaps = 0, [], []
    tags = {"CHURN_MODEL_TAG": f"{stage.models['healthy'].partition(':')[0]}:latest"}
    for workers in (1, 2) if stage.quick else (1, 2, 1, 2, 1, 2):
        here = f"{workers} worker{'s' * (workers > 1)}"
        stage.say(here)
        begun = perf_counter()
        with stage.serve(workers=workers, drain_delay_seconds=1, variables=tags) as server:
            server.await_ready(workers)
            most = START_FACTOR * workers * (perf_counter() - begun)
            old, tag = server.pids(), _register(stage)
            with (
                Callers(server.port, PAUSES) as callers,
                Newcomers(server.port) as newcomers,
                Pauses() as pauses,
            ):
                time.sleep(LOAD_SECONDS)
                start = perf_counter()
                server.started.send_signal(signal.SIGHUP)
                waited = wait_for(lambda: _all_new(server, old, workers), START_SECONDS)  # noqa: B023 - called at once
                end = perf_counter()
                time.sleep(LOAD_SECONDS)
            report.require(waited, f"{here}: not all were replaced")
            report.require(tag in ask(server.port, _MODEL).body.decode(), f"{here}: an old model")
            took.append(waited or float(START_SECONDS))
            gaps.append(round(callers.longest_gap(start, end, pauses), 3))
        report.require(took[-1] < most, f"{here}: it took {took[-1]} s, not {most:.1f}")
        report.require(
            set(callers.statuses) == {200}, f"{here}: answers {dict(callers.statuses)}, not all 200"
        )
        report.require(not callers.lost, f"{here}: {len(callers.lost)} requests were lost")
        report.require(not newcomers.failed, f"{here}: new connections got {newcomers.failed[:3]}")
        requests += callers.statuses.total() + newcomers.answered
    report.done = f"{len(took)} x SIGHUP under {len(PAUSES)} connections, with 1 and 2 workers"
    report.came_back = (
        f"{requests:,} requests answered 200, 0 lost; all workers new after {max(took):.1f} s; "
        f"longest silence {max(gaps) * 1e3:.0f} ms"
        if not report.failures
        else f"{len(report.failures)} complaints"
    )
    report.figures = {"requests": requests, "took_s": took, "longest_silence_s": gaps}
    return report


def _register(stage: Stage) -> str:
    """Register a newer version in the server's store; return its tag."""
    tag = register_models()["healthy"]
    source = Path(bentoml.models.get(tag).path)
    home = stage.home / "models" / source.parent.name
    shutil.copytree(source, home / source.name)
    latest = home / "latest.new"
    latest.write_text(source.name)
    os.replace(latest, home / "latest")  # noqa: PTH105 - at once
    return tag


def _all_new(server: Server, old: set[int], workers: int) -> bool:
    now = server.pids()
    return not now & old and len(now) == workers == server.metric("ml_workers_ready")
