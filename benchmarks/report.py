"""A comparison written down: tables on the terminal, Markdown, and JSON with every round."""

from __future__ import annotations

import json
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from benchmarks.servers import MANY, MODELS, Load
from benchmarks.tables import markdown_table
from benchmarks.targets import outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rich.console import Console

    from benchmarks.compare import Comparison, Visit
    from benchmarks.servers import Server
    from benchmarks.targets import Outcome

__all__ = ["print_comparison", "write_json", "write_markdown"]

_COLUMNS: Final = (
    "server",
    "CPU us/request",
    "req/s",
    "p50 ms",
    "p99 ms",
    "errors",
    "MB before > after",
    "CPU: x ours",
    "req/s: ours x",
)
_UNDISTURBED: Final = 0.9
_TARGET_COLUMNS: Final = ("target", "wanted", "measured", "")
_MET: Final = {True: "pass", False: "FAIL", None: "not measured"}
_STYLES: Final = {True: "green", False: "bold red", None: "dim"}


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the tables."""
    for title, rows in _tables(comparison):
        table = Table(*_COLUMNS, title=title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row, style="bold" if row[0].startswith("churn-serving") else None)
        console.print(table)
    table = Table(*_TARGET_COLUMNS, title="Targets", title_justify="left")
    for outcome in outcomes(comparison):
        table.add_row(*_target_row(outcome), style=_STYLES[outcome.met])
    console.print(table)
    console.print(_error_sentence(comparison))


def write_json(
    path: Path, comparison: Comparison, *, facts: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Write every round, the targets, the machine and the options."""
    document = {
        "facts": facts,
        "options": options,
        "errors": comparison.errors,
        "targets": [
            {
                "title": outcome.target.title,
                "wanted": outcome.target.wanted,
                "ratio": outcome.ratio,
                "met": outcome.met,
            }
            for outcome in outcomes(comparison)
        ],
        "visits": [_visit(visit) for visit in comparison.visits],
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
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    machine = (
        f"{facts['date']}, {facts['cpu']} ({facts['cores']} cores), Python {facts['python']}, "
        f"{packages}, {facts['wrk']}."
    )
    method = (
        f"Each server on one core, wrk on another; medians of {options['rounds']} alternating "
        f"rounds of {options['seconds']:g} s after a warm-up. CPU is that of the server's whole "
        "process tree. `CPU: x ours` above 1: the server needs more; `req/s: ours x` above 1: ours "
        "answers more. Before it was measured, each server's answers were found equal to "
        "scikit-learn's `predict_proba` to 1e-9."
    )
    lines = [
        "# Benchmark",
        "",
        machine,
        "",
        method,
        "",
        _error_sentence(comparison),
        "",
        f"![CPU time per request and requests per second]({chart})",
    ]
    for title, rows in _tables(comparison):
        lines += ["", f"## {title}", "", *markdown_table(_COLUMNS, rows)]
    rows = [_target_row(outcome) for outcome in outcomes(comparison)]
    lines += ["", "## Targets", "", *markdown_table(_TARGET_COLUMNS, rows)]
    path.write_text("\n".join(lines) + "\n")


def _tables(comparison: Comparison) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield a title and rows for each model and load."""
    loads = {load: None for visit in comparison.visits for load in visit.samples}
    for model in MODELS:
        for load in loads:
            servers = [
                server
                for server in comparison.servers
                if (server.model == model or server.constant)
                and comparison.samples(server.name, load)
            ]
            if any(not server.constant for server in servers):
                yield (
                    _title(model, load),
                    [_row(comparison, server, load, model) for server in servers],
                )


def _title(model: str, load: Load) -> str:
    return f"{model}, POST {load.path}, {load.connections} connection{'s' * (load.connections > 1)}"


def _row(comparison: Comparison, server: Server, load: Load, model: str) -> tuple[str, ...]:
    ours = f"ours/{model}"
    cpu = comparison.median(server.name, load, "cpu_us") or 0.0
    rate = comparison.median(server.name, load, "rate") or 0.0
    our_cpu = comparison.median(ours, load, "cpu_us")
    our_rate = comparison.median(ours, load, "rate")
    visits = comparison.of(server.name)
    before = median(visit.rss_before_mb for visit in visits)
    after = median(visit.rss_after_mb for visit in visits)
    return (
        server.title,
        f"{cpu:.0f}",
        f"{rate:,.0f}",
        f"{comparison.median(server.name, load, 'p50_ms'):.2f}",
        f"{comparison.median(server.name, load, 'p99_ms'):.2f}",
        str(sum(sample.errors for sample in comparison.samples(server.name, load))),
        f"{before:.0f} > {after:.0f}",
        f"{cpu / our_cpu:.2f}" if our_cpu else "",
        f"{our_rate / rate:.2f}" if our_rate else "",
    )


def _target_row(outcome: Outcome) -> tuple[str, ...]:
    measured = "" if outcome.ratio is None else f"{outcome.ratio:.2f}x"
    return outcome.target.title, outcome.target.wanted, measured, _MET[outcome.met]


def _error_sentence(comparison: Comparison) -> str:
    requests = sum(
        sample.requests for visit in comparison.visits for sample in visit.samples.values()
    )
    sentence = (
        f"{requests:,} requests, {comparison.errors} errors (bad statuses and socket errors)."
    )
    saturating = [
        sample
        for visit in comparison.visits
        for load, sample in visit.samples.items()
        if load.connections == MANY
    ]
    disturbed = sum(sample.busy < _UNDISTURBED for sample in saturating)
    if disturbed:
        sentence += (
            f" In {disturbed} of {len(saturating)} runs with {MANY} connections the server got "
            f"less than {_UNDISTURBED:.0%} of its core, so something else ran there: trust the CPU "
            "time, not the rates."
        )
    return sentence


def _visit(visit: Visit) -> dict[str, Any]:
    return {
        "server": visit.server.name,
        "title": visit.server.title,
        "round": visit.round,
        "largest_difference": visit.largest_difference,
        "rss_before_mb": round(visit.rss_before_mb, 1),
        "rss_after_mb": round(visit.rss_after_mb, 1),
        "processes": visit.processes,
        "samples": [
            {
                "path": load.path,
                "connections": load.connections,
                "rate": sample.rate,
                "busy": sample.busy,
            }
            | asdict(sample)
            for load, sample in visit.samples.items()
        ],
    }
