"""One server for minutes: latency at half of its saturation rate, and whether memory grows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.harness.visit import MANY
from bench.load.pacer import pace
from bench.load.wrk import saturate
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.harness.stand import Stand
    from bench.load.pacer import Paced

__all__ = ["Soak", "soak", "table"]

SATURATION_SECONDS: Final = 5
SHARE: Final = 0.5
WARM_UP_SHARE: Final = 0.1
MAX_WARM_UP_SECONDS: Final = 20.0


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
        cpu_us: CPU time of the server's processes per request.
        paced: What the client saw.
        watched: Memory and descriptors over time; the first entry is the end of the warm-up.
    """

    server: str
    model: str
    saturation_rate: float
    cpu_us: float
    paced: Paced
    watched: tuple[Watched, ...]


def soak(stand: Stand, minutes: float, tell: Callable[[str], object]) -> Soak:
    """Run one server.

    Args:
        stand: The server and its model.
        minutes: How long.
        tell: Told what happens.
    """
    route = stand.server.routes[0]
    bodies = stand.bodies(route)
    watched: list[Watched] = []
    with stand.serving() as here:
        stand.check(here)
        tell(f"{stand.name}: saturation rate")
        seconds: float = SATURATION_SECONDS
        most = saturate(here, route.path, bodies, connections=MANY, seconds=seconds).rate
        rate, seconds = SHARE * most, minutes * 60
        warm_up = min(MAX_WARM_UP_SECONDS, seconds * WARM_UP_SHARE)
        tell(f"{stand.name}: {rate:,.0f} requests/s for {minutes:g} minutes")
        start, before = time.monotonic(), here.usage()

        def watch() -> None:
            past = round(time.monotonic() - start, 1)
            watched.append(Watched(past, round(here.pss_mb(), 1), here.usage().fds))

        paced = pace(
            here,
            route.path,
            bodies,
            rate=rate,
            seconds=seconds,
            warm_up=warm_up,
            connections=MANY,
            watch=watch,
        )
        cpu = here.usage().cpu_seconds - before.cpu_seconds
        if not watched:  # a very short run
            watch()
    cpu_us = cpu * 1e6 / (paced.answers + rate * warm_up)
    return Soak(stand.server.title, stand.model, most, cpu_us, paced, tuple(watched))


def table(result: Soak) -> Table:
    """Return what was seen."""
    seen, first, last = result.paced, result.watched[0], result.watched[-1]
    by_the_client = seen.over_50_ms_because_the_client_paused
    growth = last.pss_mb - first.pss_mb
    rows = [
        ("saturation, requests/s", f"{result.saturation_rate:,.0f}"),
        ("this run, requests/s", f"{seen.answers / seen.seconds:,.0f}"),
        ("answers", f"{seen.answers:,}"),
        ("errors", f"{seen.errors:,}"),
        ("CPU us/request", f"{result.cpu_us:.0f}"),
        ("latency, ms", _percentiles(seen.latency)),
        ("the client's own lag, ms", _percentiles(seen.client_lag)),
        (
            "answers after more than 50 ms",
            f"{seen.over_50_ms:,}, of them because the client paused: {by_the_client:,}",
        ),
        (
            "the client's own pauses over 2 ms",
            f"{seen.client_pauses:,}, longest {seen.client_longest_pause_ms:.1f} ms",
        ),
        (
            "PSS after warm-up > end, MB",
            f"{first.pss_mb:.1f} > {last.pss_mb:.1f} ({growth:+.1f})",
        ),
        ("file descriptors", f"{first.fds} > {last.fds}"),
    ]
    return Table(f"Soak: {result.server}, {result.model}", ("", "measured"), rows)


def _percentiles(figures: dict[str, float]) -> str:
    return "  ".join(
        f"{name.removesuffix('_ms').replace('_', '.')} {value:.2f}"
        for name, value in figures.items()
    )
