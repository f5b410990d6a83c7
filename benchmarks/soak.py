"""One server for minutes: latency at half of its saturation rate, and whether memory grows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rich.table import Table

from benchmarks.errors import BenchmarkError
from benchmarks.load import check, drive
from benchmarks.process import pinned, running
from benchmarks.servers import CLIENT_CPU, MANY_PREDICT, PREDICT, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rich.console import Console

    from benchmarks.process import Running
    from benchmarks.servers import Server
    from benchmarks.workload import Workload

__all__ = ["Soak", "print_soak", "soak", "write_soak"]

Status: TypeAlias = "Callable[[str], AbstractContextManager[object]]"

SATURATION_SECONDS: Final = 5
SHARE: Final = 0.5
WARM_UP_SHARE: Final = 0.1
MAX_WARM_UP_SECONDS: Final = 20.0
CHUNK_SECONDS: Final = 10
WATCH_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Watched:
    """The process tree at one moment, ``seconds`` and ``requests`` after the start."""

    seconds: float
    requests: int | None
    rss_mb: float
    fds: int


@dataclass(frozen=True, slots=True)
class Soak:
    """What was seen.

    Attributes:
        server: Its name.
        saturation_rate: Requests per second of wrk on 32 connections, measured just before.
        rate: Requests per second of the run.
        requests: Answers.
        errors: Bad statuses and socket errors.
        cpu_us: CPU time of the process tree per request.
        latency: The pacer's summary; None when the rate was not paced.
        watched: Memory and descriptors over time; the first entry is the end of the warm-up.
    """

    server: str
    saturation_rate: float
    rate: float
    requests: int
    errors: int
    cpu_us: float
    latency: Mapping[str, Any] | None
    watched: tuple[Watched, ...]

    @property
    def growth_mb(self) -> float:
        """Memory at the end less memory after the warm-up."""
        return self.watched[-1].rss_mb - self.watched[0].rss_mb


def soak(
    server: Server,
    workload: Workload,
    *,
    minutes: float,
    requests: int | None,
    log: Path,
    status: Status,
) -> Soak:
    """Run one server.

    Args:
        server: Which.
        workload: What it is asked.
        minutes: How long, at half of its saturation rate.
        requests: If given: this many instead, as fast as it can.
        log: Where its output goes.
        status: Shows what happens.
    """
    with running(server, workload, log=log) as here:
        if not server.constant:
            right = workload.checked[server.model, PREDICT]
            check(here, PREDICT, bodies=right.bodies, expected=right.expected)
        with status(f"{server.name}: saturation rate"):
            saturation = drive(
                here,
                MANY_PREDICT,
                seconds=SATURATION_SECONDS,
                bodies=workload.bodies[PREDICT],
            ).rate
        if requests is not None:
            with status(f"{server.name}: {requests:,} requests"):
                return _saturated(here, workload, saturation, requests)
        rate = saturation * SHARE
        with status(f"{server.name}: {rate:,.0f} requests/s for {minutes:g} minutes"):
            return _paced(here, workload, saturation, minutes * 60)


def print_soak(console: Console, result: Soak) -> None:
    """Print what was seen."""
    table = Table("", result.server, title="Soak", title_justify="left")
    table.add_row("saturation, requests/s", f"{result.saturation_rate:,.0f}")
    table.add_row("this run, requests/s", f"{result.rate:,.0f}")
    table.add_row("answers", f"{result.requests:,}")
    table.add_row("errors", f"{result.errors:,}")
    table.add_row("CPU us/request", f"{result.cpu_us:.0f}")
    if result.latency is not None:
        seen = result.latency
        for title, figures in (("latency", "latency"), ("the client's own lag", "client_lag")):
            row = "  ".join(
                f"{name.removesuffix('_ms').replace('_', '.')} {value:.2f}"
                for name, value in seen[figures].items()
            )
            table.add_row(f"{title}, ms", row)
        table.add_row(
            "answers after more than 50 ms",
            f"{seen['over_50_ms']:,}, of them because the client paused: "
            f"{seen['over_50_ms_because_the_client_paused']:,}",
        )
        table.add_row(
            "the client's own pauses over 2 ms",
            f"{seen['client_pauses_over_2_ms']:,}, longest "
            f"{seen['client_longest_pause_ms']:.1f} ms",
        )
    first, last = result.watched[0], result.watched[-1]
    table.add_row(
        "RSS after warm-up > end, MB",
        f"{first.rss_mb:.1f} > {last.rss_mb:.1f} ({result.growth_mb:+.1f})",
    )
    table.add_row("file descriptors", f"{first.fds} > {last.fds}")
    console.print(table)


def write_soak(path: Path, result: Soak, *, facts: Mapping[str, Any]) -> None:
    """Write everything that was seen as JSON."""
    document = {"facts": facts, "growth_mb": result.growth_mb, **asdict(result)}
    path.write_text(json.dumps(document, indent=2) + "\n")


def _paced(here: Running, workload: Workload, saturation: float, seconds: float) -> Soak:
    rate = saturation * SHARE
    warm_up = min(MAX_WARM_UP_SECONDS, seconds * WARM_UP_SHARE)
    command = [
        sys.executable,
        "-m",
        "benchmarks.pacer",
        f"--port={here.port}",
        f"--path={PREDICT}",
        f"--bodies={workload.bodies[PREDICT]}",
        f"--connections={MANY_PREDICT.connections}",
        f"--rate={rate}",
        f"--seconds={seconds}",
        f"--warm-up={warm_up}",
    ]
    before = here.usage()
    start = time.monotonic()
    with pinned({CLIENT_CPU}):
        client = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    watched = []
    try:
        wait = warm_up
        while client.poll() is None:
            try:
                client.wait(wait)
            except subprocess.TimeoutExpired:
                wait = WATCH_SECONDS
                watched.append(_watch(here, start, None))
    finally:
        client.kill()
    output, _ = client.communicate()
    if client.returncode:
        raise BenchmarkError("The paced client failed.")
    seen = json.loads(output)
    after = here.usage()
    if not watched:  # a very short run
        watched.append(_watch(here, start, None))
    sent = seen["answers"] + rate * warm_up
    return Soak(
        server=here.name,
        saturation_rate=saturation,
        rate=seen["answers"] / seconds,
        requests=seen["answers"],
        errors=seen["errors"],
        cpu_us=(after.cpu_seconds - before.cpu_seconds) * 1e6 / sent,
        latency=seen,
        watched=tuple(watched),
    )


def _saturated(here: Running, workload: Workload, saturation: float, requests: int) -> Soak:
    answered, errors, elapsed, cpu_us = 0, 0, 0.0, 0.0
    watched: list[Watched] = []
    start = time.monotonic()
    while answered < requests:
        seconds = min(CHUNK_SECONDS, max(1.0, (requests - answered) / saturation))
        sample = drive(here, MANY_PREDICT, seconds=seconds, bodies=workload.bodies[PREDICT])
        answered += sample.requests
        errors += sample.errors
        elapsed += sample.seconds
        cpu_us += sample.cpu_us * sample.requests
        if answered >= requests * WARM_UP_SHARE:
            watched.append(_watch(here, start, answered))
    return Soak(
        server=here.name,
        saturation_rate=saturation,
        rate=answered / elapsed,
        requests=answered,
        errors=errors,
        cpu_us=cpu_us / answered,
        latency=None,
        watched=tuple(watched),
    )


def _watch(here: Running, start: float, requests: int | None) -> Watched:
    usage = here.usage()
    return Watched(
        seconds=round(time.monotonic() - start, 1),
        requests=requests,
        rss_mb=round(usage.rss_bytes / 1e6, 1),
        fds=usage.fds,
    )
