"""One server serves one model: started, checked, measured, stopped."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json

from bench.errors import BenchmarkError
from bench.load.overload import Overload, overload
from bench.load.pacer import Paced, pace
from bench.load.stop import Stop, stop_under_load
from bench.load.wrk import Sample, saturate
from bench.process import ROOT, free_port, launched
from bench.servers.server import BATCH, PREDICT, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bench.harness.environment import Environment
    from bench.harness.workload import Asked, Workload
    from bench.process import Running
    from bench.servers.server import Route, Server

__all__ = ["MANY", "ONE", "TOLERANCE", "Plan", "Told", "Visit", "measure", "serving", "steps"]

ONE: Final = 1
MANY: Final = 32
TOLERANCE: Final = 1e-9
WARM_UP_SECONDS: Final = 1.0

_START_SECONDS: Final = 180
_IDLE_SECONDS: Final = 2
_RECOVERY_SECONDS: Final = 30
_SPARE_PORTS: Final = 3
# Settings of the person who runs this must not leak into what is compared.
_NOT_PASSED_ON: Final = ("CHURN_", "BENTOML_", "BENCH_", "PROMETHEUS_")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a server is measured.

    Attributes:
        seconds: For each load.
        rate: Requests a second of the load that is the same for all.
        quick: Only what the targets need: no fixed rate, no overload, no SIGTERM under load.
    """

    seconds: float
    rate: float
    quick: bool = False

    def loads(self, server: Server) -> list[tuple[Route, int]]:
        """Return the routes, each with one connection and with many."""
        # A lone caller first: some servers go on waiting for what many have taught them to expect.
        loads = [(route, number) for route in server.routes for number in (ONE, MANY)]
        if not self.quick:
            return loads
        name = PREDICT.name
        return [
            load for load in loads if load[0].name == name or (load[0] is BATCH and load[1] > 1)
        ]


@dataclass(frozen=True, slots=True)
class Told:
    """What was measured on one route, with so many connections."""

    route: str
    connections: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class Visit:
    """One start of one server, and everything measured until it was stopped.

    Attributes:
        server: Its name.
        model: With which model.
        round: In which round.
        ready_seconds: From its start to its first right answer.
        processes: How many there are.
        idle_mb: Memory of all its processes after that (PSS), in 10^6 bytes.
        used_mb: The same after the loads.
        largest_difference: From scikit-learn's probabilities; None for a constant answer.
        samples: As many requests as it takes.
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
    paced: Paced | None = None
    overload: Overload | None = None
    recovers: bool | None = None
    stop: Stop | None = None

    @property
    def errors(self) -> int:
        """Failed requests, those of the overload aside."""
        paced = self.paced.errors if self.paced else 0
        return paced + sum(told.sample.errors for told in self.samples)

    def sample(self, route: str, connections: int) -> Sample | None:
        """Return what was measured of a route, or None."""
        for told in self.samples:
            if (told.route, told.connections) == (route, connections):
                return told.sample
        return None


def steps(server: Server, plan: Plan) -> int:
    """Return how often ``measure`` reports its progress."""
    return 1 + len(plan.loads(server)) + (0 if plan.quick else 3)


@contextmanager
def serving(
    server: Server,
    environment: Environment,
    workload: Workload,
    *,
    model: str,
    folder: Path,
    log: Path,
) -> Iterator[Running]:
    """Run a server until the block ends.

    Args:
        server: Which.
        environment: Where it is installed.
        workload: Has the model.
        model: Which of the models.
        folder: For its files; must be empty.
        log: Where its output goes.

    Raises:
        BenchmarkError: It does not start.
    """
    made = workload.models[model]
    site = Site(
        python=environment.python,
        folder=folder,
        scorer=made.scorer,
        pipeline=made.pipeline,
        home=workload.home,
        tag=made.tag,
        port=free_port(),
        spare_ports=tuple(free_port() for _ in range(_SPARE_PORTS)),
    )
    if server.prepare is not None:
        server.prepare(site)
    launch = server.launch(site)
    own = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)}
    route = server.routes[0]
    ready = workload.requests(route, model)[0]
    with launched(
        server.name,
        launch.command,
        port=site.port,
        environment={
            **own,
            "PYTHONPATH": str(ROOT),
            "BENCH_SCORER": str(site.scorer),
            "BENCH_PIPELINE": str(site.pipeline),
            "BENCH_TAG": site.tag,
            "BENTOML_DO_NOT_TRACK": "True",
            **launch.environment,
        },
        folder=launch.folder or ROOT,
        cpus=server.cpus,
        log=log,
        is_ready=lambda here: _ask(here, route, ready.body),
        seconds=_START_SECONDS,
    ) as here:
        yield here


def measure(
    server: Server,
    environment: Environment,
    workload: Workload,
    plan: Plan,
    *,
    model: str,
    number: int,
    folder: Path,
    log: Path,
    progress: Callable[[str], None],
) -> Visit:
    """Start a server with one model and measure it.

    Args:
        server: Which.
        environment: Where it is installed.
        workload: The model, the customers and the right answers.
        plan: What is measured.
        model: Which of the models.
        number: Of the round.
        folder: For its files; must be empty.
        log: Where its output goes.
        progress: Told before each of the ``steps`` what it is.

    Raises:
        BenchmarkError: It does not start, or its answers are wrong.
    """

    def tell(step: str) -> None:
        progress(f"round {number}: {server.name}, {model}: {step}")

    tell("starts")
    asked = {route.name: workload.requests(route, model) for route in server.routes}
    bodies = {name: folder / name for name in asked}
    first = server.routes[0]
    own = folder / "own"
    own.mkdir()
    for name, requests in asked.items():
        bodies[name].write_bytes(b"".join(request.body + b"\n" for request in requests))
    with serving(server, environment, workload, model=model, folder=own, log=log) as here:
        ready_seconds = time.time() - here.process.create_time()
        worst = None
        if not server.constant:
            worst = max(check(here, route, asked[route.name]) for route in server.routes)
        time.sleep(_IDLE_SECONDS)
        idle_mb, processes = here.pss_mb(), here.usage().processes
        samples = []
        for route, connections in plan.loads(server):
            tell(f"{route.name}, {connections} connection{'s' * (connections > 1)}")
            load = partial(saturate, here, route.path, bodies[route.name], connections=connections)
            with suppress(BenchmarkError):  # what comes of it does not count
                load(seconds=WARM_UP_SECONDS)
            samples.append(Told(route.name, connections, load(seconds=plan.seconds)))
        used_mb = here.pss_mb()
        paced = over = recovers = stop = None
        if not plan.quick:
            tell("fixed rate")
            paced = pace(
                here,
                first.path,
                bodies[first.name],
                rate=plan.rate,
                seconds=plan.seconds,
                warm_up=WARM_UP_SECONDS,
                connections=MANY,
            )
            body = asked[first.name][0].body
            (many,) = (
                told.sample
                for told in samples
                if (told.route, told.connections) == (first.name, MANY)
            )
            tell("twice its capacity")
            over = overload(
                here,
                first.path,
                capacity=many.rate,
                seconds=plan.seconds,
                body=body,
                folder=folder,
            )
            recovers = _recovers(here, first, body)
            tell("told to end")
            stop = stop_under_load(here, first.path, body)
    return Visit(
        server=server.name,
        model=model,
        round=number,
        ready_seconds=ready_seconds,
        processes=processes,
        idle_mb=idle_mb,
        used_mb=used_mb,
        largest_difference=worst,
        samples=tuple(samples),
        paced=paced,
        overload=over,
        recovers=recovers,
        stop=stop,
    )


def check(here: Running, route: Route, asked: Sequence[Asked]) -> float:
    """Compare the server's probabilities with scikit-learn's and return the largest difference.

    Raises:
        BenchmarkError: They differ by more than ``TOLERANCE``.
    """
    worst = 0.0
    for request in asked:
        answered = _ask(here, route, request.body)
        for got, wanted in zip(answered, request.churn, strict=True):
            worst = max(worst, abs(got - wanted))
    if not worst <= TOLERANCE:
        raise BenchmarkError(
            f"The answers to {route.name} differ from scikit-learn's by up to {worst:.1e}: "
            "not measured."
        )
    return worst


def _ask(here: Running, route: Route, body: bytes) -> list[float]:
    answer = here.post(route.path, body)
    try:
        return list(map(float, route.decode(from_json(answer))))
    except (KeyError, IndexError, TypeError, ValueError):
        raise ConnectionError(f"not a prediction: {answer[:200]!r}") from None


def _recovers(here: Running, route: Route, body: bytes) -> bool:
    deadline = time.monotonic() + _RECOVERY_SECONDS
    while time.monotonic() < deadline and here.process.is_running():
        with suppress(OSError):
            _ask(here, route, body)
            return True
        time.sleep(0.1)
    return False
