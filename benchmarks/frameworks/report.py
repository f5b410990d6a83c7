"""The comparison written down: tables on the terminal, Markdown, and JSON with every round."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from benchmarks.frameworks.comparison import outcomes
from benchmarks.frameworks.overload import CONNECTIONS, FACTOR
from benchmarks.frameworks.registry import FRAMEWORKS, OURS
from benchmarks.frameworks.stop import CALLERS, PATIENCE_SECONDS
from benchmarks.load import TOLERANCE
from benchmarks.servers import MANY, MODELS
from benchmarks.tables import markdown_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rich.console import Console

    from benchmarks.frameworks.comparison import Comparison, Seen
    from benchmarks.frameworks.trial import Trial

__all__ = ["print_comparison", "write_json", "write_markdown"]

_MET: Final = {True: "met", False: "MISSED"}


def print_comparison(console: Console, comparison: Comparison, *, rate: float) -> None:
    """Print the tables."""
    for title, columns, rows in _tables(comparison, rate):
        table = Table(*columns, title=title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row, style="bold" if row[0] == OURS.title else None)
        console.print(table)


def write_json(
    path: Path, comparison: Comparison, *, facts: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Write every round, the machine and the options."""
    document = {
        "facts": facts,
        "options": options,
        "environments": {
            name: {
                "version": environment.version,
                "packages": environment.packages,
                "size_mb": round(environment.size_mb, 1),
                "how": FRAMEWORKS[name].how,
                "batching": FRAMEWORKS[name].batching,
            }
            for name, environment in comparison.environments.items()
        },
        "targets": [asdict(outcome) for outcome in outcomes(comparison)],
        "absences": [asdict(absence) for absence in comparison.absences],
        "trials": [_trial(trial) for trial in comparison.trials],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def write_markdown(
    path: Path,
    comparison: Comparison,
    *,
    facts: Mapping[str, Any],
    options: Mapping[str, Any],
    chart: str,
) -> None:
    """Write the same tables as Markdown.

    Args:
        path: The file.
        comparison: What was measured.
        facts: The machine.
        options: How it was measured.
        chart: Name of the picture beside the file.
    """
    method = (
        f"{facts['date'][:10]}, {facts['cpu']} ({facts['cores']} cores), Python "
        f"{facts['python']}, {facts['wrk']}, {facts['h2load']}. One core for the server with all "
        f"its processes, another for the client; medians of {options['rounds']} rounds of "
        f"{options['seconds']:g} s for each load. Before it was measured, each server's answers "
        f"for {options['customers']} customers were found equal to scikit-learn's to "
        f"{TOLERANCE:g}."
    )
    lines = [
        method,
        "",
        f"![Requests per second and latency]({chart})",
    ]
    for title, columns, rows in _tables(comparison, options["rate"]):
        lines += ["", f"**{title}**", "", *markdown_table(columns, rows)]
    path.write_text("\n".join(lines) + "\n")


def _tables(
    comparison: Comparison, rate: float
) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Yield a title, the columns and the rows of each table."""
    for model in MODELS:
        seen = comparison.of(model)
        if seen:
            yield (
                f"{model}: speed",
                (
                    "server",
                    "CPU us/request",
                    f"req/s, {MANY} connections",
                    "p50 ms",
                    "p99 ms",
                    "p50 ms, 1 connection",
                    "p99 ms",
                    f"p50 ms at {rate:g} req/s",
                    "p99 ms",
                    "failed",
                ),
                [_speed(one) for one in seen],
            )
            yield (
                f"{model}: {FACTOR:g}x its own capacity over {CONNECTIONS} connections",
                ("server", "answers", "accepted/s", "p50 ms of them", "p99 ms", "afterwards"),
                [_overload(one) for one in seen],
            )
            yield (
                f"{model}: SIGTERM while {CALLERS} callers ask",
                ("server", "lost of those in flight", "ended after s", "exit code"),
                [_stop(one) for one in seen],
            )
    costs = [_costs(comparison, name) for name in comparison.environments]
    if costs:
        yield (
            "What it takes",
            (
                "server",
                "version",
                "packages",
                "installed MB",
                "s to ready",
                "idle MB",
                "processes",
                "dynamic batching",
                "set up",
            ),
            costs,
        )
    if comparison.absences:
        yield (
            "Not measured",
            ("server", "model", "round", "why"),
            [
                (
                    FRAMEWORKS[absence.framework].title,
                    absence.model or "both",
                    str(absence.round or "all"),
                    " ".join(absence.reason.split()),
                )
                for absence in comparison.absences
            ],
        )
    targets = outcomes(comparison)
    if targets:
        yield (
            "Targets of this project",
            ("target", "measured", ""),
            [(target.title, target.detail, _MET[target.met]) for target in targets],
        )


def _speed(seen: Seen) -> tuple[str, ...]:
    paced = f"{seen.known(lambda t: t.paced.p99_ms):.2f}"
    if not all(trial.paced.sustained for trial in seen.trials):
        paced += " (not sustained)"
    return (
        seen.title,
        f"{seen.known(lambda t: t.many.cpu_us):.0f}",
        f"{seen.known(lambda t: t.many.rate):,.0f}",
        f"{seen.known(lambda t: t.many.p50_ms):.2f}",
        f"{seen.known(lambda t: t.many.p99_ms):.2f}",
        f"{seen.known(lambda t: t.one.p50_ms):.2f}",
        f"{seen.known(lambda t: t.one.p99_ms):.2f}",
        f"{seen.known(lambda t: t.paced.p50_ms):.2f}",
        paced,
        str(seen.errors),
    )


def _overload(seen: Seen) -> tuple[str, ...]:
    statuses = sorted({status for trial in seen.trials for status in trial.overload.statuses})
    totals = {
        status: sum(trial.overload.statuses.get(status, 0) for trial in seen.trials)
        for status in statuses
    }
    everything = sum(totals.values()) or 1
    p50 = seen.median(lambda trial: trial.overload.p50_ms)
    p99 = seen.median(lambda trial: trial.overload.p99_ms)
    return (
        seen.title,
        ", ".join(f"{status}: {count / everything:.1%}" for status, count in totals.items()),
        f"{seen.known(lambda t: t.overload.accepted):,.0f}",
        "" if p50 is None else f"{p50:,.0f}",
        "" if p99 is None else f"{p99:,.0f}",
        "answers" if all(trial.recovers for trial in seen.trials) else "DOES NOT ANSWER",
    )


def _stop(seen: Seen) -> tuple[str, ...]:
    stops = [trial.stop for trial in seen.trials]
    seconds = seen.median(lambda trial: trial.stop.seconds)
    codes = sorted({stop.exit_code for stop in stops if stop.exit_code is not None})
    return (
        seen.title,
        f"{sum(stop.lost for stop in stops)} of {sum(stop.in_flight for stop in stops)}",
        f"{seconds:.1f}" if seconds is not None else f"more than {PATIENCE_SECONDS}",
        ", ".join(map(str, codes)),
    )


def _costs(comparison: Comparison, name: str) -> tuple[str, ...]:
    environment = comparison.environments[name]
    framework = FRAMEWORKS[name]
    # The model makes no difference here that is worth a table of its own.
    seen = next(
        (one for model in MODELS for one in comparison.of(model) if one.framework == name), None
    )
    return (
        framework.title,
        f"{framework.package} {environment.version}",
        str(environment.packages),
        f"{environment.size_mb:,.0f}",
        f"{seen.known(lambda t: t.ready_seconds):.1f}" if seen else "",
        f"{seen.known(lambda t: t.idle_mb):,.0f}" if seen else "",
        f"{seen.known(lambda t: t.processes):.0f}" if seen else "",
        framework.batching,
        framework.how,
    )


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        **asdict(trial),
        "many": {"rate": trial.many.rate, "busy": trial.many.busy, **asdict(trial.many)},
        "one": {"rate": trial.one.rate, "busy": trial.one.busy, **asdict(trial.one)},
    }
