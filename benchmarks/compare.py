"""The comparison: every server in turn, round after round, so that drift hits all alike."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from benchmarks.load import Sample, check, drive
from benchmarks.process import running

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.servers import Load, Server
    from benchmarks.workload import Workload

__all__ = ["Comparison", "Figure", "Visit", "compare"]

Figure: TypeAlias = Literal["rate", "cpu_us", "p50_ms", "p99_ms"]

WARM_UP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Visit:
    """One start of one server, and everything measured until it was stopped.

    Attributes:
        server: What was started.
        round: In which round.
        largest_difference: From scikit-learn's probabilities; None for a constant answer.
        rss_before_mb: Memory of its processes when it was ready.
        rss_after_mb: The same after all loads.
        processes: How many they are.
        samples: By load.
    """

    server: Server
    round: int
    largest_difference: float | None
    rss_before_mb: float
    rss_after_mb: float
    processes: int
    samples: dict[Load, Sample]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All visits."""

    visits: tuple[Visit, ...]

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers, in the order of the first round."""
        return tuple({visit.server.name: visit.server for visit in self.visits}.values())

    @property
    def errors(self) -> int:
        """Failed requests of all servers together."""
        return sum(sample.errors for visit in self.visits for sample in visit.samples.values())

    def of(self, name: str) -> list[Visit]:
        """Return the visits to the server of this name."""
        return [visit for visit in self.visits if visit.server.name == name]

    def samples(self, name: str, load: Load) -> list[Sample]:
        """Return what was measured, one sample a round."""
        return [visit.samples[load] for visit in self.of(name) if load in visit.samples]

    def median(self, name: str, load: Load, figure: Figure) -> float | None:
        """Return the median over the rounds, or None if it was not measured."""
        values = [getattr(sample, figure) for sample in self.samples(name, load)]
        return median(values) if values else None


def compare(
    servers: Sequence[Server],
    workload: Workload,
    *,
    rounds: int,
    seconds: float,
    logs: Path,
    progress: Callable[[str], None],
) -> Comparison:
    """Measure the servers.

    Args:
        servers: In this order, in each round.
        workload: What they are asked.
        rounds: How often.
        seconds: For each load.
        logs: Folder for the servers' output.
        progress: Told before each step what it is; ``steps`` of them.
    """
    return Comparison(
        tuple(
            _visit(server, workload, number, seconds=seconds, logs=logs, progress=progress)
            for number in range(1, rounds + 1)
            for server in servers
        )
    )


def steps(servers: Sequence[Server], rounds: int) -> int:
    """Return how often ``compare`` reports its progress."""
    return rounds * sum(1 + len(server.loads) for server in servers)


def _visit(
    server: Server,
    workload: Workload,
    number: int,
    *,
    seconds: float,
    logs: Path,
    progress: Callable[[str], None],
) -> Visit:
    progress(f"round {number}: {server.name} starts")
    log = logs / f"{server.name.replace('/', '-')}.log"
    with running(server, workload, log=log) as here:
        worst = None
        if not server.constant:
            paths = sorted({load.path for load in server.loads})
            right = [(path, workload.checked[server.model, path]) for path in paths]
            worst = max(
                check(here, path, bodies=known.bodies, expected=known.expected)
                for path, known in right
            )
        before = here.usage()
        samples = {}
        for load in server.loads:
            progress(f"round {number}: {server.name} {load}")
            bodies = workload.bodies[load.path]
            drive(here, load, seconds=WARM_UP_SECONDS, bodies=bodies)
            samples[load] = drive(here, load, seconds=seconds, bodies=bodies)
        after = here.usage()
    return Visit(
        server=server,
        round=number,
        largest_difference=worst,
        rss_before_mb=before.rss_bytes / 1e6,
        rss_after_mb=after.rss_bytes / 1e6,
        processes=after.processes,
        samples=samples,
    )
