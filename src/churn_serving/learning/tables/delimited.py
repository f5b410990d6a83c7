"""Tables of cells between commas, semicolons, tabs or bars (CSV).

``features.header`` finds the names. Arrow reads the rows; a row with more or fewer cells than the
header is refused, never shifted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from churn_serving.errors import DataError
from churn_serving.learning.tables.parts import (
    MAX_ROWS,
    ArrowArray,
    ArrowBatch,
    Part,
    too_many_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from churn_serving.features.header import Header
    from churn_serving.features.layouts import Plan
    from churn_serving.learning.tables.text import Text

InvalidRow: TypeAlias = Any
"""Arrow's own class of this name ships no type information."""

__all__ = ["read_rows"]

_BLOCK: Final = 8 << 20
_BYTE: Final = 128


def read_rows(
    text: Text, header: Header, plan: Plan, *, escape: bool, progress: Callable[[], None]
) -> Part:
    """Read the columns that are planned from the rows below the header.

    Raises:
        DataError: A row has more or fewer cells than the header, or never ends.
    """
    chosen = {str(place): plan.roles[column] for column, place in plan.places.items()}
    kinds = {
        name: pa.dictionary(pa.int32(), pa.string()) if role == "category" else pa.string()
        for name, role in chosen.items()
    }
    odd = _OddRows()
    batches: list[Mapping[str, ArrowArray]] = []
    rows = blank = 0
    try:
        for batch in _batches(text, header, kinds, odd, escape=escape):
            kept = _not_blank(batch)
            blank += batch.num_rows - kept.num_rows
            rows += kept.num_rows
            if rows > MAX_ROWS:
                raise too_many_rows(rows)
            batches.append({c: _small(kept.column(str(place))) for c, place in plan.places.items()})
            progress()
    except pa.ArrowInvalid as error:
        if odd.found:
            raise DataError(odd.sentence(header, blank)) from error
        if "straddling" in str(error):
            raise DataError(
                f"row {rows + 1:,} is longer than {_BLOCK >> 20} MB: is a quote opened "
                "and never closed?"
            ) from error
        raise
    notices = []
    if blank:
        are = "row without any value is" if blank == 1 else "rows without any value are"
        notices.append(f"{blank:,} {are} left out.")
    return Part(plan, rows, batches, notes=header.notes, notices=tuple(notices))


class _OddRows:
    """Judges the rows that have more or fewer cells than the header."""

    def __init__(self) -> None:
        self.skipped = 0
        self.found = False
        self.ragged = (0, 0, "")

    def __call__(self, row: InvalidRow) -> str:
        if not row.text.strip(" \t\x1a\r\n"):
            self.skipped += 1
            return "skip"
        self.found = True
        self.ragged = (row.number - self.skipped, row.actual_columns, row.text)
        return "error"

    def sentence(self, header: Header, blank: int) -> str:
        number, cells, text = self.ragged
        width = len(header.names)
        said = (
            f"row {number - blank:,} has {cells:,} {'cell' if cells == 1 else 'cells'}, "
            f"the header {width:,}"
        )
        if cells > width and text.rstrip("\r\n").endswith(header.separator):
            return f"{said}; it ends with a separator."
        decimals = re.search(r"\d,\d", text) and not re.search(r"\d\.\d", text)
        if cells > width and header.separator == "," and decimals:
            return f"{said}; a decimal comma needs quotes, or semicolons between the cells."
        return f"{said}."


def _batches(
    text: Text, header: Header, kinds: Mapping[str, Any], odd: _OddRows, *, escape: bool
) -> Iterator[ArrowBatch]:
    if not text.peek():
        return
    yield from pyarrow.csv.open_csv(
        text,
        read_options=pyarrow.csv.ReadOptions(
            column_names=[str(place) for place in range(len(header.names))],
            block_size=_BLOCK,
            use_threads=False,  # only then are rows numbered
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=header.separator,
            quote_char=header.quote,
            escape_char="\\" if escape else False,
            newlines_in_values=True,
            invalid_row_handler=odd,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            check_utf8=False,  # it was made so
            column_types=dict(kinds),
            include_columns=list(kinds),
            strings_can_be_null=False,
        ),
    )


def _not_blank(batch: ArrowBatch) -> ArrowBatch:
    """Leave out the rows that are nothing but separators, as spreadsheets write them."""
    blank = np.ones(batch.num_rows, bool)
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            texts = column.dictionary.to_pylist() or [""]
            empty = np.array([not text for text in texts])[column.indices.to_numpy()]
        else:
            empty = pc.binary_length(column).to_numpy() == 0
        blank &= empty
        if not blank.any():
            return batch
    return batch.filter(pa.array(~blank))


def _small(column: ArrowArray) -> ArrowArray:
    """Keep the places in a small dictionary in a byte each."""
    if pa.types.is_dictionary(column.type) and len(column.dictionary) < _BYTE:
        indices = column.indices.cast(pa.int8())
        return pa.DictionaryArray.from_arrays(indices, column.dictionary)
    return column
