"""Memory at rest and time to ready: servers started in turn, and never loaded.

Each server is started once before anything counts: its files are in the system's cache then, its
bytecode is written, and its answers are found right.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench.errors import BenchmarkError
from bench.harness.comparison import Absence, not_measured
from bench.harness.targets import Outcome, promises
from bench.harness.visit import IDLE_SECONDS
from bench.interval import Interval, around_the_median
from bench.servers.empty import EMPTY
from bench.servers.ours import OURS
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench.harness.stand import Bench, Stand

__all__ = ["Rest", "Start", "document", "introduction", "outcomes", "rest", "tables"]

MEMORY_OVER_EMPTY: Final = 1.15
READY_OVER_EMPTY: Final = 1.25


@dataclass(frozen=True, slots=True)
class Start:
    """One start of one server.

    Attributes:
        server: Its name.
        model: With which model.
        round: In which round.
        ready_seconds: From its start to its first right answer.
        supervisor_mb: Memory at rest (PSS) of the process that was started, in 10^6 bytes.
        workers_mb: That of all others.
    """

    server: str
    model: str
    round: int
    ready_seconds: float
    supervisor_mb: float
    workers_mb: float

    @property
    def total_mb(self) -> float:
        """The memory of all its processes."""
        return self.supervisor_mb + self.workers_mb


@dataclass(frozen=True, slots=True)
class Rest:
    """All starts, and what could not be started."""

    bench: Bench
    starts: tuple[Start, ...]
    absences: tuple[Absence, ...] = ()

    def of(self, server: str, model: str) -> dict[int, Start]:
        """Return the starts of a server with a model, by round."""
        return {
            start.round: start
            for start in self.starts
            if (start.server, start.model) == (server, model)
        }

    def over_empty(
        self, figure: Callable[[Start], float], server: str, model: str
    ) -> Interval | None:
        """Return the median of what a figure is, round by round, as a multiple of the empty's."""
        ours, empty = self.of(server, model), self.of(EMPTY.name, model)
        both = sorted(ours.keys() & empty.keys())
        if not both or server == EMPTY.name:
            return None
        return around_the_median([figure(ours[one]) / figure(empty[one]) for one in both])


def rest(
    bench: Bench, rounds: int, absences: Sequence[Absence], tell: Callable[[str], object]
) -> Rest:
    """Start the servers that are installed.

    Args:
        bench: The servers.
        rounds: How often each is started, once more aside.
        absences: Of those that are not installed.
        tell: Told before each start what it is.
    """
    starts, missing = [], list(absences)
    for number in range(rounds + 1):
        stands = bench.stands()
        first = number % max(1, len(stands))
        for stand in stands[first:] + stands[:first]:
            tell(f"round {number}: {stand.server.name}, {stand.model}: starts")
            try:
                start = _start(stand, number)
            except (BenchmarkError, OSError, subprocess.SubprocessError) as error:
                missing.append(Absence(stand.server.title, stand.model, number, str(error)))
            else:
                starts.append(start)
    return Rest(bench, tuple(start for start in starts if start.round), tuple(missing))


def _start(stand: Stand, number: int) -> Start:
    with stand.serving() as here:
        ready_seconds = time.monotonic() - here.started
        if not number:
            stand.check(here)
        time.sleep(IDLE_SECONDS)
        supervisor_mb, workers_mb = here.pss_mb_apart()
    return Start(stand.server.name, stand.model, number, ready_seconds, supervisor_mb, workers_mb)


def _ready(start: Start) -> float:
    return start.ready_seconds


def _total(start: Start) -> float:
    return start.total_mb


_COLUMNS: Final = (
    *("server", "s to ready", "x the empty service"),
    *("PSS MB, supervisor", "PSS MB, workers", "PSS MB, together", "x the empty service"),
)


def tables(found: Rest) -> Iterator[Table]:
    """Yield the tables: the medians, and the ratios with their intervals."""
    for model in found.bench.models:
        rows = []
        for server in found.bench.servers:
            starts = found.of(server.name, model).values()
            if starts:
                ready, supervisor, workers, total = (
                    median(map(figure, starts))
                    for figure in (
                        _ready,
                        lambda start: start.supervisor_mb,
                        lambda start: start.workers_mb,
                        _total,
                    )
                )
                ratios = (
                    found.over_empty(figure, server.name, model) for figure in (_ready, _total)
                )
                slower, larger = (ratio.text() if ratio else "" for ratio in ratios)
                sizes = (f"{size:.1f}" for size in (supervisor, workers, total))
                rows.append((server.title, f"{ready:.2f}", slower, *sizes, larger))
        if rows:
            yield Table(f"{model}: at rest", _COLUMNS, rows)
    yield from not_measured(found.absences)
    yield from promises(outcomes(found))


def outcomes(found: Rest) -> list[Outcome]:
    """Hold the starts against what was promised of ours."""
    made = []
    for model in found.bench.models:
        for title, figure, most in (
            ("s to ready over an empty BentoML service", _ready, READY_OVER_EMPTY),
            ("PSS at rest over an empty BentoML service", _total, MEMORY_OVER_EMPTY),
        ):
            ratio = found.over_empty(figure, OURS.name, model)
            if ratio is not None:
                wanted, measured = f"at most {most:g}x", f"{ratio.median:.2f}x"
                made.append(
                    Outcome(f"{model}: {title}", wanted, measured, met=ratio.median <= most)
                )
    return made


def introduction(rounds: int) -> str:
    """Return a paragraph that says how it was measured."""
    known = around_the_median([1.0] * rounds).confidence
    return (
        f"Medians of {rounds} starts of each server in turn, on one core, after one that does not "
        f"count: the files are cached. Ready is the first right answer. Memory is the proportional "
        f"share (PSS) {IDLE_SECONDS} s later; no load. A ratio is that of two starts of the same "
        f"round; in brackets, between what its median lies with {known:.0%} confidence."
    )


def document(found: Rest, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return every start, the targets and the machine, as JSON has it."""
    return {
        "facts": facts,
        "starts": [asdict(start) for start in found.starts],
        "targets": [asdict(outcome) for outcome in outcomes(found)],
        "absences": [asdict(absence) for absence in found.absences],
    }
