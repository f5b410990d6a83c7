"""A comparison written down: tables, and JSON with every round."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from bench.harness.comparison import middle, not_measured
from bench.harness.facts import sentence
from bench.harness.targets import outcomes, promises
from bench.harness.visit import MANY, ONE
from bench.kinds import KINDS, LOGISTIC, XGBOOST, tolerance
from bench.load.overload import CONNECTIONS, FACTOR
from bench.load.stop import CALLERS, PATIENCE_SECONDS
from bench.servers.ours import OURS
from bench.servers.server import BATCH, BATCH_V2, PREDICT, PREDICT_V1, PREDICT_V2
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.harness.comparison import Comparison, Seen
    from bench.harness.visit import Plan
    from bench.load.pacer import Paced
    from bench.load.wrk import Sample
    from bench.servers.server import Server

__all__ = ["document", "introduction", "tables"]

UNDISTURBED: Final = 0.9


def document(comparison: Comparison, plan: Plan, *, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return every round, the targets, the machine and the options, as JSON has it."""
    visits = [asdict(visit) for visit in comparison.visits]
    for visit, made in zip(comparison.visits, visits, strict=True):
        for told, sample in zip(visit.samples, made["samples"], strict=True):
            sample["sample"] |= {"rate": told.sample.rate, "busy": told.sample.busy}
    environments = comparison.bench.environments
    return {
        "facts": facts,
        "options": asdict(plan),
        "errors": comparison.errors,
        "servers": {
            server.name: {
                "title": server.title,
                "how": server.how,
                "batching": server.batching,
                **asdict(environments[server.name]),
            }
            for server in comparison.bench.servers
            if server.name in environments
        },
        "targets": [asdict(outcome) for outcome in outcomes(comparison)],
        "absences": [asdict(absence) for absence in comparison.absences],
        "visits": visits,
    }


def introduction(comparison: Comparison, plan: Plan, *, facts: Mapping[str, Any]) -> list[str]:
    """Return paragraphs: on what machine, how, and what disturbed it."""
    told = f"{tolerance(LOGISTIC):g}"
    if XGBOOST in comparison.bench.models:
        told += f" ({XGBOOST}, which sums in float32: {tolerance(XGBOOST):g})"
    method = (
        "One core for the server with all its processes, another for the client; medians of "
        f"{plan.rounds} alternating rounds of {plan.seconds:g} s for each load. CPU is "
        "that of all the server's processes, memory their proportional share (PSS). Before it was "
        "measured, each server's answers were found equal to the estimator's own `predict_proba` "
        f"to {told}."
    )
    return [sentence(facts), method, _errors(comparison)]


def tables(comparison: Comparison, plan: Plan) -> Iterator[Table]:
    """Yield the tables."""
    for model in KINDS:
        if seen := comparison.of(model):
            ours = next((one for one in seen if one.server.name == OURS.name), None)
            for route in (PREDICT, PREDICT_V1, BATCH, PREDICT_V2, BATCH_V2):
                rows = [row for one in seen if (row := _speed(one, ours, route.name))]
                if rows:
                    yield Table(f"{model}: {route.name}", _SPEED, rows)
            yield from _beside(model, seen, plan.rate)
            yield from _rest(model, seen, plan.rate)
    costs = [
        _costs(comparison, server)
        for server in comparison.bench.servers
        if server.name in comparison.bench.environments
    ]
    if costs:
        yield Table("What it takes", _COSTS, costs)
    yield from not_measured(comparison.absences)
    yield from promises(outcomes(comparison))


_SPEED: Final = (
    *("server", f"CPU us/request, {MANY} connections", "req/s", "p50 ms", "p99 ms"),
    *("CPU us/request, 1 connection", "req/s", "p50 ms", "p99 ms"),
    *("failed", "CPU: x ours", "req/s: ours x"),
)


def _speed(seen: Seen, ours: Seen | None, route: str) -> tuple[str, ...]:
    """Return a row, or nothing if the route was not measured."""
    # Batches of a thousand come over one connection only.
    where = MANY if seen.sample(_rate, route) else ONE
    cpu, rate = (seen.sample(figure, route, where) for figure in (_cpu_us, _rate))
    if cpu is None or not rate:
        return ()
    cells = [
        _number(seen.sample(figure, route, connections), form)
        for connections in (MANY, ONE)
        for figure, form in (
            (_cpu_us, ".0f"),
            (_rate, ",.0f"),
            (lambda sample: sample.p50_ms, ".2f"),
            (lambda sample: sample.p99_ms, ".2f"),
        )
    ]
    samples = (visit.sample(route, number) for visit in seen.visits for number in (ONE, MANY))
    our_cpu, our_rate = (
        ours.sample(figure, route, where) if ours else None for figure in (_cpu_us, _rate)
    )
    return (
        seen.server.title,
        *cells,
        str(sum(sample.errors for sample in samples if sample)),
        _number(our_cpu and cpu / our_cpu, ".2f"),
        _number(our_rate and our_rate / rate, ".2f"),
    )


def _beside(model: str, seen: list[Seen], rate: float) -> Iterator[Table]:
    rows = [
        (one.server.title, *_paced(figures))
        for one in seen
        if (figures := [visit.beside for visit in one.visits if visit.beside])
    ]
    if rows:
        title = f"{model}: {rate:g} requests a second of v2 beside batches of {BATCH_V2.size:,}"
        yield Table(title, _PACED, rows)


def _rest(model: str, seen: list[Seen], rate: float) -> Iterator[Table]:
    """Yield what a quick run leaves out."""
    paced, overloads, stops = [], [], []
    for one in seen:
        title = one.server.title
        if all(visit.paced and visit.overload and visit.stop for visit in one.visits):
            figures = [visit.paced for visit in one.visits if visit.paced]
            paced.append((title, *_paced(figures)))
            overloads.append((title, *_overload(one)))
            stops.append((title, *_stop(one)))
    if paced:
        yield Table(f"{model}: {rate:g} requests a second", _PACED, paced)
        yield Table(
            f"{model}: {FACTOR:g}x its own capacity over {CONNECTIONS} connections",
            ("server", "answers", "accepted/s", "p50 ms of them", "p99 ms", "afterwards"),
            overloads,
        )
        yield Table(
            f"{model}: SIGTERM while {CALLERS} callers ask",
            ("server", "lost of those in flight", "ended after s", "exit code"),
            stops,
        )


_PACED: Final = ("server", "p50 ms", "p99 ms", "failed", "kept up")


def _paced(figures: Sequence[Paced]) -> tuple[str, ...]:
    return (
        _number(middle(one.p50_ms for one in figures), ".2f"),
        _number(middle(one.p99_ms for one in figures), ".2f"),
        str(sum(one.errors for one in figures)),
        "yes" if all(one.sustained for one in figures) else "NO",
    )


def _overload(seen: Seen) -> tuple[str, ...]:
    figures = [visit.overload for visit in seen.visits if visit.overload]
    totals = {
        status: sum(one.statuses.get(status, 0) for one in figures)
        for status in sorted({status for one in figures for status in one.statuses})
    }
    everything = sum(totals.values()) or 1
    return (
        ", ".join(f"{status}: {count / everything:.1%}" for status, count in totals.items()),
        _number(middle(one.accepted for one in figures), ",.0f"),
        _number(middle(one.p50_ms for one in figures), ",.0f"),
        _number(middle(one.p99_ms for one in figures), ",.0f"),
        "answers" if all(visit.recovers for visit in seen.visits) else "DOES NOT ANSWER",
    )


def _stop(seen: Seen) -> tuple[str, ...]:
    stops = [visit.stop for visit in seen.visits if visit.stop]
    seconds = middle(one.seconds for one in stops)
    codes = sorted({stop.exit_code for stop in stops if stop.exit_code is not None})
    return (
        f"{sum(stop.lost for stop in stops)} of {sum(stop.in_flight for stop in stops)}",
        f"{seconds:.1f}" if seconds is not None else f"more than {PATIENCE_SECONDS}",
        ", ".join(map(str, codes)),
    )


_COSTS: Final = (
    *("server", "version", "packages", "installed MB", "s to ready"),
    *("PSS MB idle", "PSS MB after the loads", "processes", "dynamic batching", "set up"),
)


def _costs(comparison: Comparison, server: Server) -> tuple[str, ...]:
    environment = comparison.bench.environments[server.name]
    # The model makes no difference here that is worth a table of its own.
    seen = next(
        (one for model in KINDS for one in comparison.of(model) if one.server is server), None
    )
    figures = (
        (lambda visit: visit.ready_seconds, ".1f"),
        (lambda visit: visit.idle_mb, ",.0f"),
        (lambda visit: visit.used_mb, ",.0f"),
        (lambda visit: visit.processes, ".0f"),
    )
    return (
        server.title,
        f"{server.needs[0]} {environment.version}",
        str(environment.packages),
        f"{environment.size_mb:,.0f}",
        *(_number(seen.median(figure) if seen else None, form) for figure, form in figures),
        server.batching,
        server.how,
    )


def _errors(comparison: Comparison) -> str:
    samples = [told for visit in comparison.visits for told in visit.samples]
    requests = sum(told.sample.requests for told in samples)
    told = f"{requests:,} requests, {comparison.errors} errors."
    many = [told.sample for told in samples if told.connections == MANY]
    disturbed = sum(sample.busy < UNDISTURBED for sample in many)
    if disturbed:
        told += (
            f" In {disturbed} of {len(many)} runs with {MANY} connections the server got less than "
            f"{UNDISTURBED:.0%} of its core, so something else ran there: trust the CPU time, not "
            "the rates."
        )
    return told


def _cpu_us(sample: Sample) -> float:
    return sample.cpu_us


def _rate(sample: Sample) -> float:
    return sample.rate


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
