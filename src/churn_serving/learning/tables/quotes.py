"""Quotes that are opened by mistake, and hide the rows behind them."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from churn_serving.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from churn_serving.features.header import Header
    from churn_serving.learning.tables.text import Text

__all__ = ["lost_rows"]


def lost_rows(text: Text, header: Header) -> str | None:
    """Look for quotes that hold what seems to be rows: one of them was opened by mistake.

    Arrow reads such rows as one long cell. This reads the table once more, slowly: it is called
    only if the number of lines is not the number of rows.

    Args:
        text: The rows, without the header.
        header: How they are written.

    Raises:
        DataError: The last quote is never closed.
    """
    lines = _Recorded(io.TextIOWrapper(io.BufferedReader(text, 1 << 20), "utf-8", newline=""))
    reader = csv.reader(lines, delimiter=header.separator, quotechar=header.quote)
    least = max(len(header.names) - 1, 1)
    number, found, first = 0, 0, 0
    try:
        for row in reader:
            if any(row):
                number += 1
            taken = lines.taken()
            inner = sum(line.count(header.separator) >= least for line in taken[1:])
            if inner:
                found, first = found + inner, first or number
    except csv.Error as error:  # longer than any cell
        number += 1
        raise DataError(f"row {number:,} opens a quote that is never closed.") from error
    if _is_open(lines.last, header):
        raise DataError(f"row {number:,} opens a quote that is never closed.")
    if not found:
        return None
    return (
        f"{found:,} lines that look like rows stand between quotes and are no customers here, the "
        f"first in row {first:,}: is a quote opened there by mistake?"
    )


class _Recorded:
    """Lines, with those of the row that is being read kept."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.last: list[str] = []
        self._lines = iter(lines)
        self._now: list[str] = []

    def __iter__(self) -> _Recorded:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._now.append(line)
        return line

    def taken(self) -> list[str]:
        """Return the lines of the row that was just read."""
        self.last, self._now = self._now, []
        return self.last


def _is_open(lines: list[str], header: Header) -> bool:
    reader = csv.reader(lines, delimiter=header.separator, quotechar=header.quote, strict=True)
    try:
        list(reader)
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False
