"""The line of a text table that names its columns, and what stands between its cells.

The header is found by the names it holds, so titles above it and the separator need no option.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from churn_serving.errors import DataError
from churn_serving.features.layouts import recognised

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Header", "find_header"]

_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_HEADER_LINES: Final = 30
_SEPARATOR_LINE: Final = re.compile(rb'"?sep=(.)"?[ \t]*(?:\r\n|\r|\n)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Header:
    """How a table is written.

    Attributes:
        names: The names of the columns.
        separator: What stands between the cells.
        quote: What stands around a cell.
        size: How many bytes come before the first row.
        titles: How many lines stand above the header.
    """

    names: tuple[str, ...]
    separator: str
    quote: str
    size: int
    titles: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about it, for people."""
        notes = []
        if self.separator != ",":
            notes.append(f"{_SEPARATORS.get(self.separator, repr(self.separator))} between cells")
        if self.titles:
            lines = "line" if self.titles == 1 else "lines"
            notes.append(f"{self.titles} {lines} above the header left out")
        return tuple(notes)


def find_header(start: bytes) -> Header:
    """Find the line that names the columns best, among the first ones and with each separator."""
    separators: Sequence[str] = tuple(_SEPARATORS)
    said = _SEPARATOR_LINE.match(start)
    size = 0
    if said:
        separators, size = (said[1].decode("ascii", "replace"),), said.end()
    lines = list(io.StringIO(start[size:].decode("utf-8", "ignore"), newline=""))
    best: tuple[int, Header] | None = None
    first: Header | None = None
    for above in range(min(_HEADER_LINES, len(lines))):
        if not lines[above].strip():
            continue
        for separator in separators:
            for quote in ("'", '"') if lines[above].lstrip().startswith("'") else ('"',):
                header = _header_at(lines, above, separator, quote)
                if header is None:
                    continue
                if first is None or (
                    first.titles == above and len(header.names) > len(first.names)
                ):
                    first = header
                known = recognised(header.names)
                if known and (best is None or known > best[0]):
                    best = known, header
    found = best[1] if best else first
    if found is None:
        raise DataError("no header was found")
    before = sum(len(line.encode()) for line in lines[: found.titles])
    titles = sum(bool(line.strip()) for line in lines[: found.titles])
    return Header(found.names, found.separator, found.quote, size + before + found.size, titles)


def _header_at(lines: list[str], above: int, separator: str, quote: str) -> Header | None:
    reader = csv.reader(
        iter(lines[above:]), delimiter=separator, quotechar=quote, skipinitialspace=True
    )
    try:
        names = next(reader)
    except (csv.Error, StopIteration, TypeError):
        return None
    size = sum(len(line.encode()) for line in lines[above : above + reader.line_num])
    return Header(tuple(names), separator, quote, size, above)
