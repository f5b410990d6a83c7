"""Tables: on the terminal, and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import rich.table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

__all__ = ["Table", "markdown", "print_tables"]


class Table(NamedTuple):
    """A title, which may be empty, the names of the columns, and rows of as many cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def print_tables(console: Console, tables: Iterable[Table], *, bold: str | None = None) -> None:
    """Print tables; a row whose first cell begins with ``bold`` is set off."""
    for title, columns, rows in tables:
        shown = rich.table.Table(*columns, title=title or None, title_justify="left")
        for column in shown.columns[1:]:
            column.justify = "right"
        for row in rows:
            shown.add_row(*row, style="bold" if bold and row[0].startswith(bold) else None)
        console.print(shown)


def markdown(tables: Iterable[Table]) -> str:
    """Return the tables below headings; all columns but the first are aligned to the right."""
    lines = []
    for title, columns, rows in tables:
        lines += ["", f"## {title}"] if title else []
        rule = ("---", *("---:" for _ in columns[1:]))
        cells = [[cell.replace("|", r"\|") for cell in row] for row in (columns, rule, *rows)]
        lines += ["", *(f"| {' | '.join(row)} |" for row in cells)]
    return "\n".join(lines) + "\n"
