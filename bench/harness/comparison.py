"""Every server in turn, round after round, so that drift of the machine hits all alike."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bench.errors import BenchmarkError
from bench.harness.visit import MANY, measure
from bench.servers.server import PREDICT
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bench.harness.stand import Bench
    from bench.harness.visit import Plan, Visit
    from bench.load.wrk import Sample
    from bench.servers.server import Server

__all__ = ["Absence", "Comparison", "Seen", "compare", "middle", "not_measured"]


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


def not_measured(absences: Sequence[Absence]) -> Iterator[Table]:
    """Yield the table of the absences, if there are any."""
    if absences:
        yield Table(
            "Not measured",
            ("server", "model", "round", "why"),
            [
                (
                    one.server,
                    one.model or "all",
                    "all" if one.round is None else str(one.round),
                    " ".join(one.reason.split()),
                )
                for one in absences
            ],
        )


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
    """What was measured, and what could not be."""

    bench: Bench
    visits: tuple[Visit, ...]
    absences: tuple[Absence, ...] = ()

    @property
    def errors(self) -> int:
        """Failed requests of all servers together."""
        return sum(visit.errors for visit in self.visits)

    def of(self, model: str) -> list[Seen]:
        """Return what was seen with one model, fastest first; constant answers have no model."""
        seen = []
        for server in self.bench.servers:
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


def compare(
    bench: Bench, plan: Plan, absences: Sequence[Absence], tell: Callable[[str], object]
) -> Comparison:
    """Measure the servers that are installed.

    Args:
        bench: The servers.
        plan: What is measured.
        absences: Of those that are not installed.
        tell: Told before each step what it is.
    """
    visits, missing = [], list(absences)
    for number in range(1, plan.rounds + 1):
        stands = bench.stands()
        # Each round begins with another server: what comes first must not be a matter of luck.
        first = (number - 1) % max(1, len(stands))
        for stand in stands[first:] + stands[:first]:
            try:
                visits.append(measure(stand, plan, number, tell))
            except (BenchmarkError, OSError, subprocess.SubprocessError) as error:
                missing.append(Absence(stand.server.title, stand.model, number, str(error)))
    return Comparison(bench, tuple(visits), tuple(missing))
