"""CSV files, cut after whole rows: a line feed between quotes ends none.

Every cell is read as text. ``bulk.columns`` says what it is; Arrow would guess from the first rows.
"""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv

from churn_serving.errors import DataError
from churn_serving.features.header import Header, find_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from churn_serving.bulk.columns import ArrowBatch, ArrowSchema
    from churn_serving.bulk.engine import Engine
    from churn_serving.bulk.tables import Piece

__all__ = ["look", "read"]

PIECE_BYTES: Final = 32 << 20
_BLOCK: Final = 4 << 20
_SAMPLE: Final = 1 << 18
_LONGEST: Final = 4 * PIECE_BYTES
_MARK: Final = b"\xef\xbb\xbf"
_LINE_FEED, _RETURN = 10, 13


def look(file: IO[bytes]) -> tuple[str, ArrowSchema, Header, list[tuple[int, int, int, int]]]:
    """Return a digest of the header, the columns, how it is written, and where it is cut.

    Raises:
        DataError: It has no header, or is no text in UTF-8.
    """
    sample = file.read(_SAMPLE)
    if b"\0" in sample:
        raise DataError("it is no text in UTF-8: it holds a NUL character.")
    mark = len(_MARK) if sample.startswith(_MARK) else 0
    if b"\n" not in sample and b"\r" in sample:
        raise DataError("its lines end with carriage returns alone: convert it first.")
    header = find_header(sample[mark:])
    start = mark + header.size
    digest = hashlib.sha256(sample[:start]).hexdigest()
    schema = pa.schema([(name, pa.string()) for name in header.names])
    file.seek(start)
    return (
        digest,
        schema,
        header,
        list(_cuts(file, start, ord(header.quote), ord(header.separator))),
    )


class _Odd:
    """The lines that are no rows: their numbers, and what is wrong with each."""

    def __init__(self, width: int) -> None:
        self.rows: list[int] = []
        self.problems: list[str] = []
        self._width = width

    def __call__(self, row: Any) -> str:  # noqa: ANN401 - Arrow ships no type information
        self.rows.append(row.number)
        self.problems.append(f"{row.actual_columns:,} cells: expected {self._width:,}")
        return "skip"


def read(piece: Piece, engine: Engine) -> Iterator[tuple[Any, ArrowBatch | None, list[str]]]:
    """Read lines, some at a time; at the end those that have more or fewer cells than the header.

    Raises:
        DataError: It is no text in UTF-8; the text names the row.
        ArrowException: It cannot be read otherwise.
    """
    header: Header = piece.file.detail
    with piece.file.path.open("rb") as file:
        file.seek(piece.first)
        content = file.read(piece.end - piece.first)
    odd = _Odd(len(header.names))
    # By their places, for a header may have a name twice.
    places = {name: str(header.names.index(name)) for name in engine.columns}
    few = set(engine.texts)
    kinds = {
        place: pa.dictionary(pa.int32(), pa.string()) if name in few else pa.string()
        for name, place in places.items()
    }
    done = 0
    try:
        reader = pyarrow.csv.open_csv(
            pa.BufferReader(content),
            read_options=pyarrow.csv.ReadOptions(
                column_names=[str(place) for place in range(len(header.names))],
                block_size=_BLOCK,
                use_threads=False,  # only then are rows numbered
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=header.separator,
                quote_char=header.quote,
                newlines_in_values=True,
                invalid_row_handler=odd,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=kinds, include_columns=list(kinds), strings_can_be_null=False
            ),
        )
        for batch in reader:
            rows = _numbers(done, batch.num_rows, odd.rows) + piece.before
            done += batch.num_rows
            yield rows, batch.rename_columns(list(places)), []
    except pa.ArrowInvalid:
        _require_utf8(content, header, piece.before)
        raise
    if odd.rows:
        yield np.array(odd.rows) + piece.before, None, odd.problems


def _require_utf8(content: bytes, header: Header, before: int) -> None:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        ends = _Lines(ord(header.quote), ord(header.separator)).ends(content[: error.start + 1])
        row = before + 1 + int(np.count_nonzero(np.diff(ends, prepend=-1) > 1))
        raise DataError(f"row {row:,} is no text in UTF-8: convert the file first.") from None


def _numbers(first: int, count: int, odd: list[int]) -> NDArray[np.intp]:
    """Return the numbers of rows, from 1, given those of the lines between that are none."""
    rows = np.arange(first, first + count)
    if not odd:
        return rows + 1
    # So many rows come before each odd line.
    before = np.array(odd) - 1 - np.arange(len(odd))
    return rows + 1 + np.searchsorted(before, rows, side="right")


def _cuts(
    file: IO[bytes], start: int, quote: int, separator: int
) -> Iterator[tuple[int, int, int, int]]:
    """Cut after whole rows; count the rows, of which an empty line is none."""
    first = place = start
    before = rows = 0
    last = start - 1
    lines = _Lines(quote, separator)
    while data := file.read(_BLOCK):
        ends = lines.ends(data)
        if len(ends):
            # Between the two letters that end a line elsewhere is nothing, as in an empty line.
            rows += int(np.count_nonzero(np.diff(ends + place, prepend=last) > 1))
            last = place + int(ends[-1])
        place += len(data)
        if last + 1 - first >= PIECE_BYTES:
            yield first, last + 1, before, rows
            first, before, rows = last + 1, before + rows, 0
        if place - first > _LONGEST:
            raise DataError(
                f"row {before + rows + 1:,} does not end within {_LONGEST >> 20} MB: is a quote "
                "opened and never closed?"
            )
    if lines.inside:
        raise DataError(f"a quote is opened in row {before + rows + 1:,} and never closed.")
    if place > last + 1:
        rows += 1  # the last line may lack its end
    if place > first:
        yield first, place, before, rows


class _Lines:
    """Finds where rows end, as Arrow does: a quote opens only where a cell begins.

    Args:
        quote: What stands around a cell.
        separator: What stands between cells.
    """

    def __init__(self, quote: int, separator: int) -> None:
        self._quote = quote
        self._begins = np.array([separator, _LINE_FEED, _RETURN], np.uint8)
        self._before = _LINE_FEED
        self._just_closed = False
        self.inside = False
        """Whether a quote is open."""

    def ends(self, data: bytes) -> NDArray[np.intp]:
        """Return the places of the letters in the next bytes that end rows."""
        letters = np.frombuffer(data, np.uint8)
        is_end = letters == _LINE_FEED
        if b"\r" in data:
            is_end |= letters == _RETURN
        ends = np.flatnonzero(is_end)
        inside = self.inside
        quotes = self._turning(letters)
        if inside or len(quotes):
            ends = ends[(np.searchsorted(quotes, ends) + inside) % 2 == 0]
        self.inside = bool((len(quotes) + inside) % 2)
        last = len(letters) - 1
        self._just_closed = bool(not self.inside and len(quotes) and quotes[-1] == last)
        self._before = int(letters[-1])
        return ends

    def _turning(self, letters: NDArray[np.uint8]) -> NDArray[np.intp]:
        """Return the places of the quotes that open or close, by turns; others are only letters."""
        quotes = np.flatnonzero(letters == self._quote)
        if not len(quotes):
            return quotes
        before = np.where(quotes > 0, letters[quotes - 1], self._before)
        begins = np.isin(before, self._begins)
        # Two quotes within a cell are one letter: the cell closes and opens again.
        again = np.diff(quotes, prepend=-1 if self._just_closed else -2) == 1
        if (begins | again)[int(self.inside) :: 2].all():
            return quotes
        inside, closed = self.inside, -1 if self._just_closed else -2
        turning = []
        for place, may_open in zip(quotes.tolist(), begins.tolist(), strict=True):
            if inside:
                closed = place
            elif not (may_open or closed == place - 1):
                continue
            inside = not inside
            turning.append(place)
        return np.array(turning, np.intp)
