"""All trials, and what they say of the targets."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.frameworks.registry import FRAMEWORKS, OURS
from benchmarks.servers import MANY, MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.frameworks.environment import Environment
    from benchmarks.frameworks.trial import Trial

__all__ = ["Absence", "Comparison", "Outcome", "Seen", "outcomes"]

TIMER_FACTOR: Final = 5.0
"""So many times sooner than a server with a timer we mean to answer a lone caller."""

PLACES_AT_FIXED_RATE: Final = 2


@dataclass(frozen=True, slots=True)
class Absence:
    """A framework that has no figures, and why.

    Attributes:
        framework: Its name.
        model: With which of the models; None: with none.
        reason: One sentence, perhaps with the end of a log below it.
        round: In which round; None: in none.
    """

    framework: str
    model: str | None
    reason: str
    round: int | None


@dataclass(frozen=True, slots=True)
class Seen:
    """The medians over the rounds, for one framework and one model."""

    framework: str
    trials: tuple[Trial, ...]

    def median(self, figure: Callable[[Trial], float | None]) -> float | None:
        """Return the median of what is there of a figure."""
        values = [value for trial in self.trials if (value := figure(trial)) is not None]
        return median(values) if values else None

    def known(self, figure: Callable[[Trial], float]) -> float:
        """Return the median of a figure that every trial has."""
        return median(map(figure, self.trials))

    @property
    def title(self) -> str:
        """For the tables."""
        return FRAMEWORKS[self.framework].title

    @property
    def errors(self) -> int:
        """Failed requests of all rounds."""
        return sum(trial.errors for trial in self.trials)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured, and what could not be.

    Attributes:
        environments: By framework.
        trials: In the order in which they were run.
        absences: Of frameworks that were asked for.
    """

    environments: Mapping[str, Environment]
    trials: tuple[Trial, ...]
    absences: tuple[Absence, ...]

    def of(self, model: str) -> list[Seen]:
        """Return what was seen with one model, fastest first."""
        grouped = defaultdict(list)
        for trial in self.trials:
            if trial.model == model:
                grouped[trial.framework].append(trial)
        seen = [Seen(framework, tuple(trials)) for framework, trials in grouped.items()]
        return sorted(seen, key=lambda one: -one.known(lambda trial: trial.many.rate))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One of our targets: what it is, whether it was met, and the figure or who was better."""

    title: str
    met: bool
    detail: str


def outcomes(comparison: Comparison) -> list[Outcome]:
    """Hold the comparison against our targets; nothing where nobody was compared with us."""
    return [outcome for model in MODELS for outcome in _outcomes(comparison, model)]


def _outcomes(comparison: Comparison, model: str) -> Iterator[Outcome]:
    seen = comparison.of(model)
    ours = next((one for one in seen if one.framework == OURS.name), None)
    others = [one for one in seen if one is not ours]
    if ours is None or not others:
        return

    def first(
        title: str, unit: str, figure: Callable[[Trial], float], *, sign: int = 1, places: int = 1
    ) -> Outcome:
        mine = ours.known(figure)
        better = [one for one in others if sign * one.known(figure) < sign * mine]
        best = min(others, key=lambda one: sign * one.known(figure))
        return Outcome(
            f"{model}: {title}",
            len(better) < places,
            f"{_number(mine)} {unit}; the best other: {best.title}, "
            f"{_number(best.known(figure))} {unit}",
        )

    yield first(
        f"first in requests/s with {MANY} connections", "req/s", lambda t: t.many.rate, sign=-1
    )
    yield first(
        f"first in CPU time a request with {MANY} connections", "us", lambda t: t.many.cpu_us
    )
    timers = [one for one in others if FRAMEWORKS[one.framework].batching == "timer"]
    if timers:
        mine = ours.known(lambda trial: trial.one.p50_ms)
        best = min(timers, key=lambda one: one.known(lambda trial: trial.one.p50_ms))
        ratio = best.known(lambda trial: trial.one.p50_ms) / mine
        yield Outcome(
            f"{model}: p50 with one connection {TIMER_FACTOR:g}x sooner than batching by a timer",
            ratio >= TIMER_FACTOR,
            f"{ratio:.1f}x; the soonest of them: {best.title}",
        )
    yield first(
        "first or second in p99 at the fixed rate",
        "ms",
        lambda trial: trial.paced.p99_ms,
        places=PLACES_AT_FIXED_RATE,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - digits that matter
