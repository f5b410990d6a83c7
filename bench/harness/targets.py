"""The promises: ratios and ranks within one run, so that they hold on any machine.

Some are in units of time: what a lone caller may wait for an answer of trees, what a customer of a
batch may take, and what a single caller may wait beside such batches. No ratio would say as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.harness.visit import MANY, ONE
from bench.kinds import (
    BOOSTERS,
    CALIBRATED,
    FOREST,
    GRADIENT_BOOSTING,
    KINDS,
    LOGISTIC,
    MODELS,
    TREE,
)
from bench.servers.ours import OURS, TWO_WORKERS
from bench.servers.server import BATCH, BATCH_V2, PREDICT, PREDICT_V2
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.harness.comparison import Comparison, Seen
    from bench.load.wrk import Sample

__all__ = ["Outcome", "outcomes", "promises"]

_MET: Final = {True: "met", False: "MISSED"}

CPU_OVER_LIMIT: Final = {LOGISTIC: 2.3, TREE: 3.2}
V2_OVER_V0: Final = {LOGISTIC: 1.5, TREE: 1.7}
BATCH_US: Final = {LOGISTIC: 20.0, TREE: 35.0}
"""CPU time of a customer in a batch of v2, with reasons and ranking."""
BESIDE_MS: Final = 10.0
CPU_OVER_COMMIT: Final = 1.05
FOREST_OVER_COMMIT: Final = 10
"""Where that commit ran scikit-learn's own forest."""
LONE_MS: Final = 0.3
LONE_KINDS: Final = (GRADIENT_BOOSTING, CALIBRATED, *BOOSTERS)
TIMER_FACTOR: Final = 5.0
"""So many times sooner than a server with a timer we mean to answer a lone caller."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One promise: what it is, what was measured, and whether it was kept."""

    title: str
    wanted: str
    measured: str
    met: bool


def outcomes(comparison: Comparison) -> list[Outcome]:
    """Hold the comparison against the promises about servers that were measured."""
    return [outcome for model in KINDS for outcome in _of_model(comparison.of(model), model)]


def promises(found: Sequence[Outcome]) -> Iterator[Table]:
    """Yield the table of the promises, if there are any."""
    if found:
        yield Table(
            "Targets",
            ("target", "wanted", "measured", ""),
            [(one.title, one.wanted, one.measured, _MET[one.met]) for one in found],
        )


def _rate(sample: Sample) -> float:
    return sample.rate


def _cpu(sample: Sample) -> float:
    return sample.cpu_us


def _p50(sample: Sample) -> float:
    return sample.p50_ms


def _of_model(seen: list[Seen], model: str) -> Iterator[Outcome]:
    by_name = {one.server.name: one for one in seen}
    ours = by_name.get(OURS.name)
    if ours is None:
        return
    if model in MODELS:
        yield from _over_peers(ours, by_name, model)
        yield from _v2(ours, model)
    yield from _over_commits(ours, by_name, model)
    yield from _lone(ours, model)
    others = [one for one in seen if not (one.server.ours or one.server.constant)]
    if others:
        yield from _ranks(ours, others, model)


def _ratio(title: str, mine: float | None, peer: float | None, bound: str) -> Iterator[Outcome]:
    """Yield an outcome if both were measured; the bound is like ``>= 2`` or ``<= 1``."""
    if mine is None or not peer:
        return
    sign, figure = bound.split()
    found = mine / peer
    met = found >= float(figure) if sign == ">=" else found <= float(figure)
    wanted = f"at {'least' if sign == '>=' else 'most'} {figure}x"
    yield Outcome(title, wanted, f"{found:.2f}x", met)


def _over_peers(ours: Seen, by_name: dict[str, Seen], model: str) -> Iterator[Outcome]:
    """Yield what was promised of the models whose scoring takes less than their serving."""

    def peer(name: str, figure: Callable[[Sample], float], *where: str | int) -> float | None:
        one = by_name.get(name)
        return None if one is None else one.sample(figure, *where)  # type: ignore[arg-type]

    for name, who, bound in (
        ("fastapi-textbook", "textbook FastAPI", ">= 40"),
        ("fastapi-tuned", "hand-tuned FastAPI with our scorer", ">= 2"),
        ("fastapi-tuned-threads", "hand-tuned FastAPI with predict_proba", ">= 10"),
        ("bentoml-defaults", "BentoML's defaults", ">= 8"),
    ):
        title = f"{model}: req/s over {who}"
        yield from _ratio(title, ours.sample(_rate), peer(name, _rate), bound)
    yield from _ratio(
        f"{model}: CPU/request over the raw ASGI limit",
        ours.sample(_cpu),
        peer("limit", _cpu),
        f"<= {CPU_OVER_LIMIT[model]:g}",
    )
    lone = (PREDICT.name, ONE)
    for name, who, bound in (
        ("fastapi-textbook", "textbook FastAPI", "<= 0.2"),
        ("fastapi-tuned", "hand-tuned FastAPI", "<= 1"),
    ):
        yield from _ratio(
            f"{model}: p50 on one connection over {who}",
            ours.sample(_p50, *lone),
            peer(name, _p50, *lone),
            bound,
        )
    if model == LOGISTIC and (batches := ours.sample(_rate, BATCH.name, MANY)) is not None:
        title = f"{model}: customers/s in batches of {BATCH.size} over"
        tuned = peer("fastapi-tuned", _rate, BATCH.name, MANY)
        textbook = peer("fastapi-textbook", _rate)
        yield from _ratio(f"{title} textbook FastAPI", BATCH.size * batches, textbook, ">= 300")
        yield from _ratio(f"{title} hand-tuned FastAPI", batches, tuned, ">= 1.5")
    title = f"{model}: CPU/request of two workers over one"
    yield from _ratio(title, peer(TWO_WORKERS.name, _cpu), ours.sample(_cpu), "<= 1.1")


def _v2(ours: Seen, model: str) -> Iterator[Outcome]:
    """Yield what was promised of decisions and reasons."""
    yield from _ratio(
        f"{model}: CPU/request of v2, with reasons, over {PREDICT.path}",
        ours.sample(_cpu, PREDICT_V2.name, MANY),
        ours.sample(_cpu),
        f"<= {V2_OVER_V0[model]:g}",
    )
    if (batch := ours.sample(_cpu, BATCH_V2.name, ONE)) is not None:
        each, most = batch / BATCH_V2.size, BATCH_US[model]
        title = f"{model}: CPU/customer in batches of {BATCH_V2.size:,}, with reasons and ranking"
        yield Outcome(title, f"at most {most:g} us", f"{each:.1f} us", each <= most)
    p99 = ours.median(lambda visit: visit.beside.p99_ms if visit.beside else None)
    if p99 is not None:
        title = f"{model}: p99 of single callers beside a stream of such batches"
        wanted = f"at most {BESIDE_MS:g} ms"
        yield Outcome(title, wanted, f"{p99:.2f} ms", p99 <= BESIDE_MS)


def _over_commits(ours: Seen, by_name: dict[str, Seen], model: str) -> Iterator[Outcome]:
    for name, before in by_name.items():
        if not name.startswith("commit-"):
            continue
        commit = f"over commit {name.removeprefix('commit-')}"
        title, bound = f"{model}: CPU/request {commit}", f"<= {CPU_OVER_COMMIT:g}"
        yield from _ratio(title, ours.sample(_cpu), before.sample(_cpu), bound)
        if model == FOREST:
            title, bound = f"{model}: req/s {commit}", f">= {FOREST_OVER_COMMIT}"
            yield from _ratio(title, ours.sample(_rate), before.sample(_rate), bound)


def _lone(ours: Seen, model: str) -> Iterator[Outcome]:
    p50 = ours.sample(_p50, PREDICT.name, ONE)
    if model in LONE_KINDS and p50 is not None:
        title, wanted = f"{model}: p50 on one connection", f"at most {LONE_MS:g} ms"
        yield Outcome(title, wanted, f"{p50:.2f} ms", p50 <= LONE_MS)


def _ranks(ours: Seen, others: list[Seen], model: str) -> Iterator[Outcome]:
    def rank(
        title: str,
        unit: str,
        figure: Callable[[Seen], float | None],
        *,
        sign: int = 1,
        places: int = 1,
    ) -> Iterator[Outcome]:
        mine = figure(ours)
        known = [(sign * value, one) for one in others if (value := figure(one)) is not None]
        if mine is None or not known:
            return
        best, who = min(known, key=lambda pair: pair[0])
        yield Outcome(
            f"{model}: {title}",
            "first" if places == 1 else f"among the first {places}",
            f"{_number(mine)} {unit}; the best other: {who.server.title}, {_number(sign * best)}",
            sum(value < sign * mine for value, _ in known) < places,
        )

    many = f"with {MANY} connections"
    yield from rank(f"req/s {many}", "req/s", lambda one: one.sample(_rate), sign=-1)
    yield from rank(f"CPU/request {many}", "us", lambda one: one.sample(_cpu))
    yield from rank(
        "p99 at the fixed rate",
        "ms",
        lambda one: one.median(lambda visit: visit.paced.p99_ms if visit.paced else None),
        places=2,
    )
    mine = ours.sample(_p50, PREDICT.name, ONE)
    timers = [
        (p50, one.server.title)
        for one in others
        if one.server.batching == "timer"
        and (p50 := one.sample(_p50, PREDICT.name, ONE)) is not None
    ]
    if mine and timers:
        soonest, title = min(timers)
        yield Outcome(
            f"{model}: p50 on one connection, sooner than batching by a timer",
            f"at least {TIMER_FACTOR:g}x",
            f"{soonest / mine:.1f}x; the soonest of them: {title}",
            soonest / mine >= TIMER_FACTOR,
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - digits that matter
