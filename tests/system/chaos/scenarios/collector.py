"""The collector of the spans takes connections and says nothing."""

from __future__ import annotations

import socket
from time import perf_counter
from typing import TYPE_CHECKING, Final

from tests.system.chaos.client import ASK_PREDICTION, ask
from tests.system.chaos.report import Report

if TYPE_CHECKING:
    from tests.system.chaos.stage import Stage

__all__ = ["collector"]

DRAIN_SECONDS: Final = 20
REQUESTS: Final = 50


def collector(stage: Stage) -> Report:
    """A collector that hangs: requests do not wait for it, and neither does the end."""
    report = Report()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        # Its own patience is longer than that of this test.
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_EXPORTER_OTLP_TIMEOUT": "600"}
        with stage.serve(
            tracing="true", drain_seconds=DRAIN_SECONDS, variables=variables
        ) as server:
            answered = sum(ask(server.port, ASK_PREDICTION).status == 200 for _ in range(REQUESTS))
            stage.say("stopping")
            start = perf_counter()
            code = server.stop()
            stopped = round(perf_counter() - start, 2)
        log = server.log.read_text()
    report.require(answered == REQUESTS, f"{answered} of {REQUESTS} were answered")
    report.require(code == 0, f"exit code {code}")
    report.require(stopped < DRAIN_SECONDS, f"it took {stopped} s to stop, not {DRAIN_SECONDS}")
    report.require("The last spans were not sent" in log, "nothing was said of the lost spans")
    report.done = f"SIGTERM after {REQUESTS} traced requests, with a collector that hangs"
    report.came_back = f"{answered} answered 200; exit {code} after {stopped:.1f} s"
    report.figures = {"answered": answered, "stopped_after_s": stopped}
    return report
