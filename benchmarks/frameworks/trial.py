"""One framework serves one model: started, checked, measured, stopped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.compare import WARM_UP_SECONDS
from benchmarks.errors import BenchmarkError
from benchmarks.frameworks.framework import Site
from benchmarks.frameworks.overload import Overload, overload
from benchmarks.frameworks.stop import Stop, stop_under_load
from benchmarks.load import TOLERANCE, Sample, drive
from benchmarks.process import free_port, launched, pinned
from benchmarks.servers import CLIENT_CPU, MANY, ONE, ROOT, SERVER_CPU, Load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.frameworks.environment import Environment
    from benchmarks.frameworks.framework import Framework
    from benchmarks.process import Running
    from benchmarks.workload import Workload

__all__ = ["Paced", "Trial", "run_trial", "steps"]

START_SECONDS: Final = 180
IDLE_SECONDS: Final = 2
SPARE_PORTS: Final = 3
SUSTAINED: Final = 0.99
"""Share of a fixed rate that has to be answered in time."""

_RECOVERY_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Paced:
    """A fixed rate, sent whether or not the last request was answered.

    Attributes:
        rate: Requests a second.
        p50_ms: Half of the answers came within this, counted from when a request was due.
        p99_ms: 99 of 100 answers came within this.
        errors: Other answers than 200, lost connections, and no answer at all.
        sustained: Whether the server kept up.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    sustained: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured.

    Attributes:
        framework: Its name.
        model: A key of ``benchmarks.servers.MODELS``.
        round: In which round.
        ready_seconds: From its start to its first right answer.
        idle_mb: Memory after that, in 10^6 bytes; a page that processes share counts once.
        processes: How many they are.
        largest_difference: From scikit-learn's probabilities.
        one: With one connection.
        many: With ``MANY`` connections.
        paced: At the rate that all are given.
        overload: At twice the rate of ``many``.
        recovers: Whether it answered again afterwards.
        stop: What became of the requests it had when it was told to end.
    """

    framework: str
    model: str
    round: int
    ready_seconds: float
    idle_mb: float
    processes: int
    largest_difference: float
    one: Sample
    many: Sample
    paced: Paced
    overload: Overload
    recovers: bool
    stop: Stop

    @property
    def errors(self) -> int:
        """Failed requests, those of the overload aside."""
        return self.one.errors + self.many.errors + self.paced.errors


_STEPS: Final = (
    "starts",
    f"{ONE} connection",
    f"{MANY} connections",
    "fixed rate",
    "twice its capacity",
    "told to end",
)
steps: Final = len(_STEPS)
"""How often a trial reports its progress."""


def run_trial(
    framework: Framework,
    environment: Environment,
    workload: Workload,
    *,
    model: str,
    number: int,
    seconds: float,
    rate: float,
    folder: Path,
    log: Path,
    progress: Callable[[str], None],
) -> Trial:
    """Measure one framework with one model.

    Args:
        framework: Which.
        environment: Where it is installed.
        workload: The model, the customers and the right answers.
        model: Which of the models.
        number: Of the round.
        seconds: For each load.
        rate: Requests a second for the fixed rate.
        folder: For its files; must be empty.
        log: Where its output goes.
        progress: Told before each of the ``steps`` what it is.

    Raises:
        BenchmarkError: It does not start, or its answers are wrong.
    """
    told = iter(_STEPS)

    def tell() -> None:
        progress(f"round {number}: {framework.name}, {model}: {next(told)}")

    export = workload.exports[model]
    site = Site(
        python=environment.python,
        folder=folder,
        model=model,
        scorer=export.scorer,
        pipeline=export.pipeline,
        bundle=export.bundle,
        store=workload.home,
        tag=export.tag,
        port=free_port(),
        spare_ports=tuple(free_port() for _ in range(SPARE_PORTS)),
    )
    tell()
    requests = [framework.encode(customer) for customer in workload.customers]
    bodies = folder / "bodies"
    bodies.write_bytes(b"\n".join(requests) + b"\n")
    if framework.prepare is not None:
        framework.prepare(site)
    launch = framework.launch(site)
    path = framework.path

    def answer(here: Running, request: bytes) -> float:
        read = here.post(path, request)
        try:
            return framework.decode(read)
        except (KeyError, IndexError, TypeError, ValueError):
            raise ConnectionError(f"not a prediction: {read[:200]!r}") from None

    def drive_with(connections: int) -> Sample:
        load = Load(path, connections)
        with suppress(BenchmarkError):  # what comes of it does not count
            drive(here, load, seconds=WARM_UP_SECONDS, bodies=bodies)
        return drive(here, load, seconds=seconds, bodies=bodies)

    begun = time.monotonic()
    with launched(
        framework.name,
        launch.command,
        port=site.port,
        environment={"PYTHONPATH": str(ROOT), **launch.environment},
        folder=launch.folder or ROOT,
        cpus={SERVER_CPU},
        log=log,
        is_ready=lambda here: answer(here, requests[0]),
        seconds=START_SECONDS,
    ) as here:
        ready_seconds = time.monotonic() - begun
        worst = max(
            abs(answer(here, request) - wanted)
            for request, wanted in zip(requests, workload.churn[model], strict=True)
        )
        if not worst <= TOLERANCE:
            raise BenchmarkError(
                f"Its answers differ from scikit-learn's by up to {worst:.1e}: not measured."
            )
        time.sleep(IDLE_SECONDS)
        idle_mb = here.pss_bytes() / 1e6
        processes = here.usage().processes
        # A lone caller first: some servers go on waiting for what many have taught them to expect.
        tell()
        one = drive_with(ONE)
        tell()
        many = drive_with(MANY)
        tell()
        paced = _pace(here, path, bodies, rate=rate, seconds=seconds)
        tell()
        over = overload(
            here, path, capacity=many.rate, seconds=seconds, body=requests[0], folder=folder
        )
        recovers = _recovers(here, lambda: answer(here, requests[0]))
        tell()
        stop = stop_under_load(here, path, requests[0])
    return Trial(
        framework=framework.name,
        model=model,
        round=number,
        ready_seconds=ready_seconds,
        idle_mb=idle_mb,
        processes=processes,
        largest_difference=worst,
        one=one,
        many=many,
        paced=paced,
        overload=over,
        recovers=recovers,
        stop=stop,
    )


def _pace(here: Running, path: str, bodies: Path, *, rate: float, seconds: float) -> Paced:
    command = [
        *(sys.executable, "-m", "benchmarks.pacer", f"--port={here.port}", f"--path={path}"),
        *(f"--bodies={bodies}", f"--connections={MANY}", f"--rate={rate}"),
        *(f"--seconds={seconds}", f"--warm-up={WARM_UP_SECONDS}"),
    ]
    with pinned({CLIENT_CPU}):
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BenchmarkError(f"The paced client failed: {result.stderr.strip()[-500:]}")
    seen: dict[str, Any] = json.loads(result.stdout)
    expected = rate * seconds
    # A server that cannot keep up answers later and later: by the end, by seconds.
    in_time = seen["answers"] - seen["over_1_s"]
    return Paced(
        rate=rate,
        p50_ms=seen["latency"].get("p50_ms", float("inf")),
        p99_ms=seen["latency"].get("p99_ms", float("inf")),
        errors=seen["errors"],
        sustained=in_time >= SUSTAINED * expected,
    )


def _recovers(here: Running, ask: Callable[[], object]) -> bool:
    deadline = time.monotonic() + _RECOVERY_SECONDS
    while time.monotonic() < deadline and here.process.is_running():
        with suppress(OSError):
            ask()
            return True
        time.sleep(0.1)
    return False
