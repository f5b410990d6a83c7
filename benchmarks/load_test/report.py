"""The figures of a load test: tables on the terminal, and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from benchmarks.tables import markdown_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

__all__ = ["print_summary", "write_markdown"]

_COLUMNS: Final = ("request", "requests", "req/s", "failed", "p50 ms", "p95 ms", "p99 ms")
_FAILURE_COLUMNS: Final = ("failure", "request", "times")


def print_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """Print a table of what was measured, and one of the failures, if there are any."""
    for columns, rows in _tables(summary):
        table = Table(*columns)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row)
        console.print(table)


def write_markdown(path: Path, summary: Mapping[str, Any], *, about: Sequence[str]) -> None:
    """Write the same tables as Markdown, below some paragraphs."""
    lines = ["# Load test"]
    for paragraph in about:
        lines += ["", paragraph]
    for columns, rows in _tables(summary):
        lines += ["", *markdown_table(columns, rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _tables(
    summary: Mapping[str, Any],
) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Return the columns and the rows of each table."""
    rows = [
        (
            row["request"],
            f"{row['requests']:,}",
            f"{row['requests_per_second']:,.1f}",
            f"{row['failures']:,}",
            *(f"{row[f'p{percent}_ms']:g}" for percent in (50, 95, 99)),
        )
        for row in summary["rows"]
    ]
    failures = [
        (failure["name"], failure["request"], f"{failure['count']:,}")
        for failure in summary["failures"]
    ]
    return [(_COLUMNS, rows), *([(_FAILURE_COLUMNS, failures)] if failures else [])]
