"""The cells of a table as numbers, flags and categories; or which cells are none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from churn_serving.errors import DataError
from churn_serving.features.columns import CATEGORIES
from churn_serving.features.layouts import Choices, printable, quoted
from churn_serving.learning.tables.numbers import read_numbers
from churn_serving.learning.tables.times import read_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from churn_serving.learning.dataset import Labels, Times
    from churn_serving.learning.tables.parts import ArrowArray
    from churn_serving.learning.tables.reading import Table

__all__ = ["Cells"]

_SHOWN_ROWS: Final = 5
_SHOWN_CELLS: Final = 3
_SHOWN_LETTERS: Final = 40
_EMPTY: Final = "an empty cell"
_TWO_WAYS: Final = r"[+-]?[0-9]{1,3},[0-9]{3}"


class Cells:
    """The columns of a table, understood one after the other.

    Every method raises ``DataError`` for the first column that holds something else than expected:
    it names the column as the table does, its first bad rows, and what they hold.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._plan = table.plan
        cells = {
            c: kind for columns in self._plan.layout.fields.values() for c, kind in columns.items()
        }
        columns = {
            c: table.columns[c] for c, kind in cells.items() if not isinstance(kind, Choices)
        }
        money = [column for column, kind in cells.items() if kind is float]
        self._numbers, self._notes = read_numbers(columns, money)
        self._places: dict[str, NDArray[np.int8]] = {}
        (self._total,) = self._plan.layout.fields["total_charges"]

    def labels(self) -> Labels:
        """Return 1 for each customer who left, else 0."""
        column, choices = self._plan.layout.label
        y = self._meanings(column, choices).astype(np.int64)
        left = int(y.sum())
        if left in {0, len(y)}:
            outcome = "left" if left else "stayed"
            raise DataError(
                f"Column '{self._plan.names[column]}' holds only one class: training needs "
                f"customers who left and customers who stayed, found {len(y):,} who {outcome}."
            )
        return y

    def field(self, name: str) -> NDArray[Any]:
        """Return a field: float64 for numbers and flags, int8 for categories.

        A total that is missing is NaN; see ``missing_totals``.
        """
        columns = [
            self._meanings(column, kind)
            if isinstance(kind, Choices)
            else self._number(column, whole=kind is int)
            for column, kind in self._plan.layout.fields[name].items()
        ]
        if len(columns) > 1:
            total: NDArray[np.float64] = np.sum(columns, axis=0, dtype=np.float64)
            return total
        kind = next(iter(self._plan.layout.fields[name].values()))
        return columns[0] if _is_category(name, kind) else columns[0].astype(np.float64, copy=False)

    @property
    def missing_totals(self) -> NDArray[np.bool_]:
        """Where the total charges are empty."""
        return self._numbers[self._total].missing

    def refuse_missing_totals(self, filled: NDArray[np.bool_]) -> None:
        """Refuse a table in which a total is missing that was not filled."""
        self._refuse_missing(self._total, np.flatnonzero(self.missing_totals & ~filled))

    def ids(self) -> NDArray[np.object_] | None:
        """Return the customers' ids; '' where a row has none."""
        if self._plan.id is None:
            return None
        chunks = [
            pc.utf8_trim_whitespace(pc.fill_null(chunk, "")).to_numpy(zero_copy_only=False)
            for chunk in self._table.columns[self._plan.id]
        ]
        ids: NDArray[np.object_] = np.concatenate(chunks)
        return ids if any(ids) else None

    def time(self) -> Times | None:
        """Return the time of each row."""
        if self._plan.time is None:
            return None
        times, bad, expected = read_times(self._table.columns[self._plan.time])
        if bad.size:
            raise self._refusal(self._plan.time, bad, expected)
        return times

    def texts(self, column: str) -> tuple[NDArray[Any], list[str]]:
        """Return a column of few values: for each row the place of its value, and the values."""
        values: dict[str, int] = {}
        places = [
            _looked_up(
                chunk,
                [values.setdefault((text or "").strip(), len(values)) for text in _words(chunk)],
                values.setdefault("", len(values)) if chunk.null_count else -1,
                np.int32,
            )
            for chunk in self._table.columns[column]
        ]
        return np.concatenate(places), list(values)

    def places(self, column: str, choices: Choices) -> NDArray[np.int8]:
        """Return for each row the place of its value among the choices; -1 for none of them."""
        if column not in self._places:
            self._places[column] = np.concatenate(
                [
                    _looked_up(chunk, choices.places(_words(chunk)), -1, np.int8)
                    for chunk in self._table.columns[column]
                ]
            )
        return self._places[column]

    def has(self, column: str) -> bool:
        """Say whether the table has a further column."""
        return column in self._plan.places

    def recognised(self) -> tuple[str, ...]:
        """Say how the table was understood."""
        column = self._plan.layout.label[0]
        label = self._plan.names[column]
        notes = [*self._table.notes, *self._notes]
        if label.casefold() != column.casefold():
            notes.append(f"the label is '{label}'")
        if self._plan.id is not None:
            notes.append(f"customers by '{self._plan.names[self._plan.id]}'")
        return (f"Read as {self._plan.layout.title}{': ' * bool(notes)}{', '.join(notes)}.",)

    def refusal(self, field: str, rows: NDArray[np.intp], expected: str) -> DataError:
        """Return what is wrong with rows that break a rule of the schema."""
        columns = tuple(self._plan.layout.fields[field])
        if len(columns) == 1:
            return self._refusal(columns[0], rows, expected)
        services = quoted(self._plan.names[column] for column in columns)
        return DataError(
            f"Field '{field}', {self._rows(rows)}: expected {expected}, found another number of "
            f"services in {services}."
        )

    def _meanings(self, column: str, choices: Choices) -> NDArray[np.int8]:
        places = self.places(column, choices)
        bad = np.flatnonzero(places < 0)
        if bad.size:
            raise self._refusal(column, bad, choices.expected)
        return np.array(tuple(choices.meanings.values()), np.int8)[places]

    def _number(self, column: str, *, whole: bool) -> NDArray[np.float64]:
        numbers = self._numbers[column]
        bad = numbers.bad
        if whole:
            values = numbers.values
            bad = bad | ~(np.isfinite(values) & (values == np.floor(values)))
        if bad.any():
            expected = "a whole number" if whole else "a number"
            raise self._refusal(column, np.flatnonzero(bad), expected)
        if column != self._total:
            self._refuse_missing(column, np.flatnonzero(numbers.missing))
        return numbers.values

    def _refuse_missing(self, column: str, rows: NDArray[np.intp]) -> None:
        if rows.size:
            first = self._cell(column, int(rows[0]))
            undefined = isinstance(first, str) and first.strip().lower() == "nan"
            expected = "a finite number" if undefined else "a number"
            raise self._refusal(column, rows, expected)

    def _refusal(self, column: str, rows: NDArray[np.intp], expected: str) -> DataError:
        shown = dict.fromkeys(
            _shown(self._cell(column, int(row))) for row in rows[:_SHOWN_ROWS].tolist()
        )
        found = ", ".join(list(shown)[:_SHOWN_CELLS])
        return DataError(
            f"Column '{self._plan.names[column]}', {self._rows(rows)}: expected {expected}, "
            f"found {found}."
        )

    def _rows(self, rows: NDArray[np.intp]) -> str:
        """Name the first rows, counted from 1, the header left out; of the first such file."""
        before, where = 0, ""
        if len(self._table.files) > 1:
            for name, number in self._table.files:
                if rows[0] < before + number:
                    rows = rows[rows < before + number] - before
                    where = f" of {name}"
                    break
                before += number
        shown = ", ".join(str(row + 1) for row in rows[:_SHOWN_ROWS].tolist())
        more = f" and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
        return f"{'rows' if len(rows) > 1 else 'row'} {shown}{more}{where}"

    def _cell(self, column: str, row: int) -> object:
        for chunk in self._table.columns[column]:
            if row < len(chunk):
                value: object = chunk[row].as_py()
                return value
            row -= len(chunk)
        return None


def _is_category(field: str, kind: object) -> bool:
    return isinstance(kind, Choices) and field in CATEGORIES


def _words(chunk: ArrowArray) -> list[str | None]:
    words: list[str | None] = chunk.dictionary.to_pylist()
    return words


def _looked_up(
    chunk: ArrowArray, places: Sequence[int], empty: int, kind: type[np.signedinteger[Any]]
) -> NDArray[Any]:
    """Return the place of each cell; of an empty one, and of a null, ``empty``."""
    table = np.array([*places, empty], kind)
    indices = chunk.indices
    if indices.null_count:
        indices = pc.fill_null(indices.cast(pa.int32()), len(places))
    found: NDArray[Any] = table[indices.to_numpy(zero_copy_only=False)]
    return found


def _shown(cell: object) -> str:
    """Return what a cell holds, for people."""
    if cell is None or cell != cell or (isinstance(cell, str) and not cell.strip()):  # noqa: PLR0124 - NaN
        return _EMPTY
    text = printable(str(cell).strip())
    text = text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}…"
    said = f"'{text}'"
    if re.fullmatch(_TWO_WAYS, text):
        said += f" (is it {text.replace(',', '')} or {text.replace(',', '.')}?)"
    return said
