"""One server for minutes: latency at half of its saturation rate, and whether memory grows."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.harness.visit import MANY, check, serving
from bench.load.pacer import pace
from bench.load.wrk import saturate
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bench.harness.environment import Environment
    from bench.harness.workload import Workload
    from bench.load.pacer import Paced
    from bench.servers.server import Server

__all__ = ["Soak", "soak", "table", "write_json"]

SATURATION_SECONDS: Final = 5
SHARE: Final = 0.5
WARM_UP_SHARE: Final = 0.1
MAX_WARM_UP_SECONDS: Final = 20.0
CHUNK_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Watched:
    """All the server's processes, ``seconds`` after the start: memory is their PSS."""

    seconds: float
    pss_mb: float
    fds: int


@dataclass(frozen=True, slots=True)
class Soak:
    """What was seen.

    Attributes:
        server: Its title.
        model: With which model.
        saturation_rate: Requests per second of wrk, measured just before.
        rate: Requests per second of the run.
        requests: Answers.
        errors: Bad statuses and socket errors.
        cpu_us: CPU time of the server's processes per request.
        paced: What the paced client saw; None when the rate was not paced.
        watched: Memory and descriptors over time; the first entry is the end of the warm-up.
    """

    server: str
    model: str
    saturation_rate: float
    rate: float
    requests: int
    errors: int
    cpu_us: float
    paced: Paced | None
    watched: tuple[Watched, ...]

    @property
    def growth_mb(self) -> float:
        """Memory at the end less memory after the warm-up."""
        return self.watched[-1].pss_mb - self.watched[0].pss_mb


def soak(
    server: Server,
    environment: Environment,
    workload: Workload,
    *,
    model: str,
    minutes: float,
    requests: int | None,
    folder: Path,
    log: Path,
    status: Callable[[str], AbstractContextManager[object]],
) -> Soak:
    """Run one server.

    Args:
        server: Which.
        environment: Where it is installed.
        workload: What it is asked.
        model: With which model.
        minutes: How long, at half of its saturation rate.
        requests: If given: this many instead, as fast as it can.
        folder: For its files; must be empty.
        log: Where its output goes.
        status: Shows what happens.
    """
    route = server.routes[0]
    asked = workload.requests(route, model)
    bodies = folder / "bodies"
    bodies.write_bytes(b"".join(request.body + b"\n" for request in asked))
    own = folder / "own"
    own.mkdir()
    watched: list[Watched] = []
    with serving(server, environment, workload, model=model, folder=own, log=log) as here:
        if not server.constant:
            check(here, route, asked)

        def load(seconds: float) -> tuple[int, int, float]:
            sample = saturate(here, route.path, bodies, connections=MANY, seconds=seconds)
            return sample.requests, sample.errors, sample.seconds

        with status(f"{server.title}: saturation rate"):
            answered, _, elapsed = load(SATURATION_SECONDS)
        saturation = answered / elapsed
        start, before = time.monotonic(), here.usage()

        def watch() -> None:
            seconds = round(time.monotonic() - start, 1)
            watched.append(Watched(seconds, round(here.pss_mb(), 1), here.usage().fds))

        paced, errors, elapsed = None, 0, minutes * 60
        if requests is None:
            rate = saturation * SHARE
            warm_up = min(MAX_WARM_UP_SECONDS, elapsed * WARM_UP_SHARE)
            with status(f"{server.title}: {rate:,.0f} requests/s for {minutes:g} minutes"):
                paced = pace(
                    here,
                    route.path,
                    bodies,
                    rate=rate,
                    seconds=elapsed,
                    warm_up=warm_up,
                    connections=MANY,
                    watch=watch,
                )
            answered, errors = paced.answers, paced.errors
            sent = answered + rate * warm_up
        else:
            answered, elapsed = 0, 0.0
            with status(f"{server.title}: {requests:,} requests"):
                while answered < requests:
                    left = (requests - answered) / saturation
                    more = load(min(CHUNK_SECONDS, max(1.0, left)))
                    answered, errors, elapsed = (
                        answered + more[0],
                        errors + more[1],
                        elapsed + more[2],
                    )
                    if answered >= requests * WARM_UP_SHARE:
                        watch()
            sent = answered
        after = here.usage()
        if not watched:  # a very short run
            watch()
    return Soak(
        server=server.title,
        model=model,
        saturation_rate=saturation,
        rate=answered / elapsed,
        requests=answered,
        errors=errors,
        cpu_us=(after.cpu_seconds - before.cpu_seconds) * 1e6 / sent,
        paced=paced,
        watched=tuple(watched),
    )


def table(result: Soak) -> Table:
    """Return what was seen."""
    rows = [
        ("saturation, requests/s", f"{result.saturation_rate:,.0f}"),
        ("this run, requests/s", f"{result.rate:,.0f}"),
        ("answers", f"{result.requests:,}"),
        ("errors", f"{result.errors:,}"),
        ("CPU us/request", f"{result.cpu_us:.0f}"),
    ]
    if (seen := result.paced) is not None:
        for title, figures in (
            ("latency", seen.latency),
            ("the client's own lag", seen.client_lag),
        ):
            cells = (
                f"{name.removesuffix('_ms').replace('_', '.')} {value:.2f}"
                for name, value in figures.items()
            )
            rows.append((f"{title}, ms", "  ".join(cells)))
        by_the_client = seen.over_50_ms_because_the_client_paused
        slow = f"{seen.over_50_ms:,}, of them because the client paused: {by_the_client:,}"
        pauses = f"{seen.client_pauses:,}, longest {seen.client_longest_pause_ms:.1f} ms"
        rows.append(("answers after more than 50 ms", slow))
        rows.append(("the client's own pauses over 2 ms", pauses))
    first, last = result.watched[0], result.watched[-1]
    memory = f"{first.pss_mb:.1f} > {last.pss_mb:.1f} ({result.growth_mb:+.1f})"
    rows.append(("PSS after warm-up > end, MB", memory))
    rows.append(("file descriptors", f"{first.fds} > {last.fds}"))
    return Table(f"Soak: {result.server}, {result.model}", ("", "measured"), rows)


def write_json(path: Path, result: Soak, *, facts: Mapping[str, Any]) -> None:
    """Write everything that was seen."""
    document = {"facts": facts, "growth_mb": result.growth_mb, **asdict(result)}
    path.write_text(json.dumps(document, indent=2) + "\n")
