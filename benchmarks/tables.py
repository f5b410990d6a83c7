"""Tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["markdown_table"]


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; all columns but the first are aligned to the right."""
    rule = ("---", *("---:" for _ in columns[1:]))
    lines = [[cell.replace("|", r"\|") for cell in cells] for cells in (columns, rule, *rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]
