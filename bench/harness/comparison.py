"""Every server in turn, round after round, so that drift of the machine hits all alike."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bench.errors import BenchmarkError
from bench.harness.visit import MANY, measure, steps
from bench.servers.server import PREDICT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from bench.harness.environment import Environment
    from bench.harness.visit import Plan, Visit
    from bench.harness.workload import Workload
    from bench.load.wrk import Sample
    from bench.servers.server import Server

__all__ = ["Absence", "Comparison", "Seen", "compare", "middle", "total_steps"]


@dataclass(frozen=True, slots=True)
class Absence:
    """What was asked for and has no figures, and why.

    Attributes:
        server: Its title.
        model: With which of the models; None: with none.
        round: In which round; None: in none.
        reason: One sentence, perhaps with the end of a log below it.
    """

    server: str
    model: str | None
    round: int | None
    reason: str


def middle(values: Iterable[float | None]) -> float | None:
    """Return the median of those that are there, or None."""
    there = [value for value in values if value is not None]
    return median(there) if there else None


@dataclass(frozen=True, slots=True)
class Seen:
    """One server with one model: the medians over the rounds."""

    server: Server
    visits: tuple[Visit, ...]

    def median(self, figure: Callable[[Visit], float | None]) -> float | None:
        """Return the median of what is there of a figure."""
        return middle(map(figure, self.visits))

    def sample(
        self,
        figure: Callable[[Sample], float],
        route: str = PREDICT.name,
        connections: int = MANY,
    ) -> float | None:
        """Return the median of a figure of one route."""

        def of_visit(visit: Visit) -> float | None:
            sample = visit.sample(route, connections)
            return None if sample is None else figure(sample)

        return self.median(of_visit)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured, and what could not be.

    Attributes:
        servers: In the order in which they were run.
        environments: By the name of the server.
        visits: In the order in which they were made.
        absences: Of servers that were asked for.
    """

    servers: Sequence[Server]
    environments: Mapping[str, Environment]
    visits: tuple[Visit, ...]
    absences: tuple[Absence, ...] = ()

    @property
    def errors(self) -> int:
        """Failed requests of all servers together."""
        return sum(visit.errors for visit in self.visits)

    def of(self, model: str) -> list[Seen]:
        """Return what was seen with one model, fastest first; constant answers have no model."""
        seen = []
        for server in self.servers:
            visits = tuple(
                visit
                for visit in self.visits
                if visit.server == server.name and (visit.model == model or server.constant)
            )
            if visits:
                seen.append(Seen(server, visits))
        if all(one.server.constant for one in seen):
            return []
        return sorted(seen, key=lambda one: -(one.sample(lambda sample: sample.rate) or 0))


def total_steps(
    environments: Mapping[str, Environment],
    servers: Sequence[Server],
    plan: Plan,
    *,
    models: Sequence[str],
    rounds: int,
) -> int:
    """Return how often ``compare`` reports its progress."""
    return rounds * sum(
        steps(server, plan)
        for server in servers
        if server.name in environments
        for model in models
        if model in server.models
    )


def compare(
    servers: Sequence[Server],
    environments: Mapping[str, Environment],
    workload: Workload,
    plan: Plan,
    *,
    models: Sequence[str],
    rounds: int,
    folder: Path,
    logs: Path,
    absences: Sequence[Absence],
    progress: Callable[[str], None],
) -> Comparison:
    """Measure the servers that are installed.

    Args:
        servers: In this order, in each round.
        environments: Of those that are installed.
        workload: What they are asked.
        plan: What is measured.
        models: With these.
        rounds: How often.
        folder: For their files.
        logs: Folder for the servers' output.
        absences: Of those that are not installed.
        progress: Told before each step what it is.
    """
    visits, missing = [], list(absences)
    for number in range(1, rounds + 1):
        for model in models:
            for server in servers:
                if server.name not in environments or model not in server.models:
                    continue
                own = folder / f"{number}-{model}-{server.name}"
                own.mkdir()
                try:
                    visits.append(
                        measure(
                            server,
                            environments[server.name],
                            workload,
                            plan,
                            model=model,
                            number=number,
                            folder=own,
                            log=logs / f"{server.name}-{model}.log",
                            progress=progress,
                        )
                    )
                except (BenchmarkError, OSError, subprocess.SubprocessError) as error:
                    missing.append(Absence(server.title, model, number, str(error)))
                shutil.rmtree(own, ignore_errors=True)
    return Comparison(servers, environments, tuple(visits), tuple(missing))
