"""From Arrow to the fields of customers: a batch's columns as numpy arrays, and what is no field.

Each cell is judged alone, by the rules of ``features.layouts`` and as training reads it: the
verdict never depends on the batch that a row came in. Only numbers as computers write them are
numbers; an amount of ``1.234,50`` is refused, where training would ask the whole table.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from churn_serving.errors import DataError
from churn_serving.features.columns import Refused
from churn_serving.features.first_month import with_first_totals
from churn_serving.features.layouts import Choices

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from churn_serving.features.columns import FieldArrays
    from churn_serving.features.layouts import Plan

__all__ = [
    "ArrowArray",
    "ArrowBatch",
    "ArrowSchema",
    "Numbers",
    "check_types",
    "read_fields",
    "read_numbers",
    "require_id_type",
    "without_views",
]

ArrowArray: TypeAlias = Any
ArrowBatch: TypeAlias = Any
ArrowSchema: TypeAlias = Any
"""Arrow ships no type information."""

_PLAIN: Final = r"^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_MISSING: Final = r"(?i)^(?:|nan|na|n/a|null|none|\\N)$"
_EXACT_DIGITS: Final = 15
"""A whole number of so many digits is a float64, and so is its quotient by a power of ten."""

_NONE: Final = -1
_EMPTY: Final = -2


class Numbers(NamedTuple):
    """A column of numbers.

    Attributes:
        values: Of any numeric type; NaN where there is none.
        missing: Where a cell is empty; None: nowhere.
        bad: Where a cell holds something that is no number; None: nowhere.
    """

    values: NDArray[Any]
    missing: NDArray[np.bool_] | None = None
    bad: NDArray[np.bool_] | None = None


def check_types(schema: ArrowSchema, plan: Plan, numbers: Sequence[str] = ()) -> None:
    """Refuse a table whose columns cannot be what they are for.

    Args:
        schema: That of the table, or of its batches.
        plan: What its columns are.
        numbers: Further columns that hold numbers.

    Raises:
        DataError: A column has another type; the text names it.
    """
    roles = {plan.keys[column]: role for column, role in plan.roles.items() if role != "text"}
    for name in (*roles, *numbers):
        kind = schema.field(name).type
        if not _is_readable(kind):
            expected = "texts or numbers" if roles.get(name) == "category" else "numbers"
            raise DataError(f"Column '{name}': expected {expected}, found the type {kind}.")


def require_id_type(schema: ArrowSchema, name: str) -> None:
    """Refuse an id that is not one value: a list, or a record of several.

    Raises:
        DataError: It is; the text names the column.
    """
    kind = _stored(schema.field(name).type)
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        raise DataError(
            f"Column '{name}': expected an id, a text or a number, found the type {kind}: name "
            "another column with --id."
        )


def without_views(array: ArrowArray) -> ArrowArray:
    """Return a column as it is stored: Arrow selects no rows of views, nor casts extensions."""
    kind = _stored(array.type)
    if pa.types.is_string_view(kind):
        kind = pa.large_string()
    elif pa.types.is_binary_view(kind):
        kind = pa.large_binary()
    return array if kind == array.type else array.cast(kind)


def read_fields(
    batch: ArrowBatch, plan: Plan
) -> tuple[FieldArrays, Mapping[str, Sequence[Refused]]]:
    """Read the fields of a batch; a missing total of the first month is that month's charges.

    Returns:
        The fields, and for each field the cells that were not read.
    """
    fields: dict[str, NDArray[Any]] = {}
    unread: dict[str, Sequence[Refused]] = {}
    chosen: dict[str, NDArray[np.int8]] = {}
    for field, columns in plan.layout.fields.items():
        refused: list[Refused] = []
        arrays = []
        for column, kind in columns.items():
            cells, name = batch.column(plan.keys[column]), plan.names[column]
            if isinstance(kind, Choices):
                if column not in chosen:  # the raw table's services make several fields
                    chosen[column] = _meanings(cells, kind)
                arrays.append(chosen[column])
                refused += _not_chosen(chosen[column], name, kind)
                continue
            numbers = read_numbers(cells)
            if field == "total_charges":
                numbers = _with_first_totals(numbers, fields)
            arrays.append(numbers.values)
            refused += _no_numbers(numbers, name, "a whole number" if kind is int else "a number")
        # Services add up; a bad one is refused whatever the sum is.
        fields[field] = arrays[0] if len(arrays) == 1 else np.add.reduce(arrays, dtype=np.int8)
        if refused:
            unread[field] = refused
    return fields, unread


def _with_first_totals(numbers: Numbers, fields: FieldArrays) -> Numbers:
    if numbers.missing is None:
        return numbers
    totals, filled = with_first_totals(
        tenure_months=fields["tenure_months"],
        monthly_charges=fields["monthly_charges"],
        total_charges=numbers.values,
        missing=numbers.missing,
    )
    return _told(totals, numbers.missing & ~filled, numbers.bad)


def _no_numbers(numbers: Numbers, name: str, expected: str) -> Iterator[Refused]:
    if numbers.bad is not None:
        yield _refused(name, numbers.bad, expected)
    if numbers.missing is not None:
        yield _refused(name, numbers.missing, "a value")


def read_numbers(array: ArrowArray) -> Numbers:
    """Read a column of numbers, whatever it is kept in: NaN counts as an empty cell."""
    array = _simple(array)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _gathered(array)
    if pa.types.is_integer(kind) and not array.null_count:
        return Numbers(array.to_numpy())
    if _is_text(kind):
        return _of_texts(array)
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        missing = _mask(array.is_null())
        return _told(np.full(len(array), np.nan), missing, ~missing)
    decimal = pa.types.is_decimal(kind)
    values = _of_decimals(array) if decimal else array.to_numpy(zero_copy_only=False)
    return _told(values, np.isnan(values), None)


def _of_texts(array: ArrowArray) -> Numbers:
    try:
        values = pc.cast(array, pa.float64()).to_numpy(zero_copy_only=False)
        # What is no finite number may be a word, or empty: look closer.
        if np.isfinite(values).all():
            return Numbers(values)
    except pa.ArrowInvalid:
        pass
    text = pc.utf8_trim_whitespace(pc.fill_null(array, ""))
    plain = pc.match_substring_regex(text, _PLAIN)
    values = pc.cast(pc.if_else(plain, text, None), pa.float64()).to_numpy(zero_copy_only=False)
    missing = _mask(pc.match_substring_regex(text, _MISSING))
    return _told(values, missing, ~_mask(plain) & ~missing)


def _of_decimals(array: ArrowArray) -> NDArray[np.float64]:
    """Return the nearest float64 of each decimal; Arrow's own cast is off by a bit now and then."""
    kind = array.type
    if (
        pa.types.is_decimal128(kind)
        and kind.precision <= _EXACT_DIGITS
        and 0 <= kind.scale <= _EXACT_DIGITS
    ):
        words = np.frombuffer(array.buffers()[1], np.int64)
        whole = words[2 * array.offset : 2 * (array.offset + len(array)) : 2]
        values: NDArray[np.float64] = whole / 10.0**kind.scale
        if array.null_count:
            values[_mask(array.is_null())] = np.nan
        return values
    texts = pc.cast(array, pa.string())
    numbers: NDArray[np.float64] = pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False)
    return numbers


def _told(
    values: NDArray[Any], missing: NDArray[np.bool_], bad: NDArray[np.bool_] | None
) -> Numbers:
    return Numbers(
        values,
        missing if missing.any() else None,
        bad if bad is not None and bad.any() else None,
    )


def _gathered(array: ArrowArray) -> Numbers:
    """Read a dictionary: its few values once, then each cell's place."""
    words = read_numbers(array.dictionary)
    places = _places(array)

    zeros = np.zeros(len(array.dictionary), bool)
    tables = (
        np.append(words.values.astype(np.float64), np.nan),
        np.append(zeros if words.missing is None else words.missing, True),
        np.append(zeros if words.bad is None else words.bad, False),
    )
    return _told(*(table[places] for table in tables))


def _meanings(array: ArrowArray, choices: Choices) -> NDArray[np.int8]:
    """Return what each cell means; ``_EMPTY`` if it is empty, ``_NONE`` if it is no choice."""
    array = _simple(array)
    kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), _EMPTY, np.int8)
    if pa.types.is_boolean(kind):
        words: list[str | None] = ["false", "true"]
        flags = array if not array.null_count else pc.cast(array, pa.int8()).fill_null(2)
        places = pc.cast(flags, pa.int8()).to_numpy(zero_copy_only=False)
    else:
        array = array if pa.types.is_dictionary(kind) else array.dictionary_encode()
        words = _words(array.dictionary)
        places = _places(array)
    meanings = (*choices.meanings.values(), _NONE)  # the place -1 is the last
    table = [
        _EMPTY if not (word or "").strip() else meanings[place]
        for word, place in zip(words, choices.places(words), strict=True)
    ]
    found: NDArray[np.int8] = np.array([*table, _EMPTY], np.int8)[places]
    return found


def _words(dictionary: ArrowArray) -> list[str | None]:
    """Return the values of a dictionary as texts: 1.0 is 1, as training reads it."""
    values = _simple(dictionary).to_pylist()
    return [_word(value) for value in values]


def _word(value: object) -> str | None:
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (float, Decimal)) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def _places(array: ArrowArray) -> NDArray[np.integer[Any]]:
    """Return each cell's place in the dictionary; that of an empty one is behind the last."""
    indices = array.indices
    if indices.null_count:
        indices = pc.fill_null(indices.cast(pa.int32()), len(array.dictionary))
    places: NDArray[np.integer[Any]] = indices.to_numpy(zero_copy_only=False)
    return places


def _not_chosen(meanings: NDArray[np.int8], name: str, choices: Choices) -> list[Refused]:
    if not len(meanings) or meanings.min() >= 0:
        return []
    found = [(meanings == _NONE, choices.expected), (meanings == _EMPTY, "a value")]
    return [_refused(name, rows, expected) for rows, expected in found if rows.any()]


def _refused(name: str, rows: NDArray[np.bool_], expected: str) -> Refused:
    return Refused(name, np.flatnonzero(rows), expected)


def _simple(array: ArrowArray) -> ArrowArray:
    """Unwrap what is only another form of a simple column; texts are strings or large strings."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    kind = array.type
    if pa.types.is_float16(kind):
        return array.cast(pa.float32())
    if pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    if _is_binary(kind):
        return _decoded(array.cast(pa.large_binary()))
    return array


def _decoded(array: ArrowArray) -> ArrowArray:
    """Read bytes as texts; what is no UTF-8 is no number and no choice either."""
    try:
        return array.cast(pa.large_string())
    except pa.ArrowInvalid:
        texts = [
            None if each is None else each.decode(errors="replace") for each in array.to_pylist()
        ]
        return pa.array(texts, pa.large_string())


def _is_text(kind: ArrowSchema) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: ArrowSchema) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _stored(kind: ArrowSchema) -> ArrowSchema:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_readable(kind: ArrowSchema) -> bool:
    kind = _stored(kind)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _is_readable(kind.value_type)
    simple = (
        pa.types.is_null,
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        _is_binary,
    )
    return any(is_kind(kind) for is_kind in simple)


def _mask(mask: ArrowArray) -> NDArray[np.bool_]:
    values: NDArray[np.bool_] = mask.to_numpy(zero_copy_only=False)
    return values
