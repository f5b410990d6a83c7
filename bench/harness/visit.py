"""One server serves one model: everything that is measured from its start to its end."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.errors import BenchmarkError
from bench.load.overload import Overload, overload
from bench.load.pacer import Paced, pace
from bench.load.stop import Stop, stop_under_load
from bench.load.wrk import Sample, Stream, saturate
from bench.servers.server import BATCH, BATCH_V2, PREDICT_V1, PREDICT_V2

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.harness.stand import Stand
    from bench.process import Running
    from bench.servers.server import Route, Server

__all__ = ["IDLE_SECONDS", "MANY", "ONE", "Plan", "Told", "Visit", "measure"]

ONE: Final = 1
MANY: Final = 32
WARM_UP_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 2
"""After the start, before the memory at rest is measured."""

_RECOVERY_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Plan:
    """How a server is measured.

    Attributes:
        rounds: How often.
        seconds: For each load.
        rate: Requests a second of the load that is the same for all.
        quick: Only what most targets need: no fixed rate, no overload, no SIGTERM under load.
    """

    rounds: int
    seconds: float
    rate: float
    quick: bool = False

    def loads(self, server: Server) -> list[tuple[Route, int]]:
        """Return the routes, each with one connection and with many."""
        # A lone caller first: some servers go on waiting for what many have taught them to expect.
        loads = [(route, number) for route in server.routes for number in (ONE, MANY)]
        left_out = [(BATCH_V2, MANY)]  # each takes the server for tens of milliseconds
        if self.quick:
            left_out += [(PREDICT_V1, ONE), (PREDICT_V1, MANY), (BATCH, ONE), (PREDICT_V2, ONE)]
        return [load for load in loads if load not in left_out]


@dataclass(frozen=True, slots=True)
class Told:
    """What was measured on one route, with so many connections."""

    route: str
    connections: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class Visit:
    """One start of one server.

    Attributes:
        server: Its name.
        model: With which model.
        round: In which round.
        ready_seconds: From its start to its first right answer.
        processes: How many there are.
        idle_mb: Memory of all its processes after that (PSS), in 10^6 bytes.
        used_mb: The same after the loads.
        largest_difference: From the estimator's own probabilities; None for a constant answer.
        samples: As many requests as it takes.
        beside: Single callers at the rate that all are given, while one batch of a thousand comes
            after the other.
        paced: At the rate that all are given.
        overload: At twice the rate that it takes.
        recovers: Whether it answered again afterwards.
        stop: What became of the requests it had when it was told to end.
    """

    server: str
    model: str
    round: int
    ready_seconds: float
    processes: int
    idle_mb: float
    used_mb: float
    largest_difference: float | None
    samples: tuple[Told, ...]
    beside: Paced | None = None
    paced: Paced | None = None
    overload: Overload | None = None
    recovers: bool | None = None
    stop: Stop | None = None

    @property
    def errors(self) -> int:
        """Failed requests, those of the overload aside."""
        paced = sum(one.errors for one in (self.beside, self.paced) if one)
        return paced + sum(told.sample.errors for told in self.samples)

    def sample(self, route: str, connections: int) -> Sample | None:
        """Return what was measured of a route, or None."""
        for told in self.samples:
            if (told.route, told.connections) == (route, connections):
                return told.sample
        return None


def measure(stand: Stand, plan: Plan, number: int, say: Callable[[str], object]) -> Visit:
    """Start a server, measure it and stop it.

    Args:
        stand: The server and its model.
        plan: What is measured.
        number: Of the round.
        say: Told before each step what it is.

    Raises:
        BenchmarkError: It does not start, or its answers are wrong.
    """
    server = stand.server

    def tell(step: str) -> None:
        say(f"round {number}: {server.name}, {stand.model}: {step}")

    first = server.routes[0]
    bodies, body = stand.bodies(first), stand.asked(first)[0].body
    tell("starts")
    with stand.serving() as here:
        ready_seconds = time.monotonic() - here.started
        worst = stand.check(here)
        time.sleep(IDLE_SECONDS)
        idle_mb, processes = here.pss_mb(), here.usage().processes
        samples = []
        for route, connections in plan.loads(server):
            tell(f"{route.name}, {connections} connection{'s' * (connections > 1)}")
            file = stand.bodies(route)
            load = partial(saturate, here, route.path, file, connections=connections)
            with suppress(BenchmarkError):  # what comes of it does not count
                load(seconds=WARM_UP_SECONDS)
            samples.append(Told(route.name, connections, load(seconds=plan.seconds)))
        beside = None
        if BATCH_V2 in server.routes:
            tell("single callers beside batches")
            beside = _beside(stand, here, plan)
        seen = Visit(
            server=server.name,
            model=stand.model,
            round=number,
            ready_seconds=ready_seconds,
            processes=processes,
            idle_mb=idle_mb,
            used_mb=here.pss_mb(),
            largest_difference=worst,
            samples=tuple(samples),
            beside=beside,
        )
        many = seen.sample(first.name, MANY)
        if plan.quick or many is None:
            return seen
        tell("fixed rate")
        paced = pace(
            here,
            first.path,
            bodies,
            rate=plan.rate,
            seconds=plan.seconds,
            warm_up=WARM_UP_SECONDS,
            connections=MANY,
        )
        tell("twice its capacity")
        over = overload(here, first.path, body, capacity=many.rate, seconds=plan.seconds)
        recovers = _recovers(here, lambda: stand.ask(here, first, body))
        tell("told to end")
        stop = stop_under_load(here, first.path, body)
    return replace(seen, paced=paced, overload=over, recovers=recovers, stop=stop)


def _beside(stand: Stand, here: Running, plan: Plan) -> Paced:
    seconds = WARM_UP_SECONDS + plan.seconds + 1
    with Stream(here, BATCH_V2.path, stand.bodies(BATCH_V2), seconds=seconds) as batches:
        paced = pace(
            here,
            PREDICT_V2.path,
            stand.bodies(PREDICT_V2),
            rate=plan.rate,
            seconds=plan.seconds,
            warm_up=WARM_UP_SECONDS,
            connections=MANY,
        )
    if batches.sample.errors:
        raise BenchmarkError(f"{batches.sample.errors} batches failed beside single callers.")
    return paced


def _recovers(here: Running, ask: Callable[[], object]) -> bool:
    deadline = time.monotonic() + _RECOVERY_SECONDS
    while time.monotonic() < deadline and here.process.is_running():
        with suppress(OSError):
            ask()
            return True
        time.sleep(0.1)
    return False
