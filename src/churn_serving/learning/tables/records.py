"""Tables as JSON: a line for each customer, or one list of them."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.json

from churn_serving.errors import DataError
from churn_serving.learning.tables.parts import MAX_ROWS, ArrowArray, Part, too_many_rows
from churn_serving.learning.tables.typed import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from churn_serving.features.layouts import Plan, Role
    from churn_serving.learning.tables.parts import Planner
    from churn_serving.learning.tables.text import Text

__all__ = ["read_records"]

_BLOCK: Final = 4 << 20
_LARGE: Final = 1e300
_MAX_LIST: Final = 256 << 20
_FIRST: Final = 1000
"""So many records are asked for their names: a name without a value is often left out."""


def read_records(text: Text, planner: Planner, progress: Callable[[], None]) -> Part:
    """Read the columns that are planned.

    Raises:
        DataError: It is no JSON, or holds something else than records.
    """
    if text.peek().lstrip().startswith(b"["):
        return _read_list(text, planner)
    plan: Plan | None = None
    rows = 0
    batches: list[Mapping[str, ArrowArray]] = []
    for block in _blocks(text):
        if plan is None:
            plan = _plan(_parsed(block, 0, _FIRST), planner)
        batch, number = _quick(block, plan) or _slow(_parsed(block, rows), plan, rows)
        rows += number
        if rows > MAX_ROWS:
            raise too_many_rows(rows)
        batches.append(batch)
        progress()
    if plan is None:
        raise DataError("it is empty")
    return Part(plan, rows, batches, notes=("JSON lines",))


def _read_list(text: Text, planner: Planner) -> Part:
    content = text.read(_MAX_LIST)
    if text.peek():
        raise DataError(
            f"a JSON list of more than {_MAX_LIST >> 20} MB is not read: write a line for each "
            "customer."
        )
    try:
        records = json.loads(content, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"it is no JSON: {error}") from error
    if not all(isinstance(record, dict) for record in records):
        raise DataError("expected a list of JSON objects, found a list of something else")
    plan = _plan(records[:_FIRST], planner)
    batch, rows = _slow(records, plan, 0)
    return Part(plan, rows, [batch], notes=("a JSON list",))


def _blocks(text: Text) -> Iterator[bytes]:
    """Cut the text after whole lines."""
    rest, data = b"", text.read(_BLOCK)
    while following := text.read(_BLOCK):
        whole, line_feed, begun = data.rpartition(b"\n")
        if line_feed:
            yield rest + whole + line_feed
            rest = begun
        else:
            rest += data
            if len(rest) > 4 * _BLOCK:
                raise DataError(f"a line of JSON is longer than {4 * _BLOCK >> 20} MB")
        data = following
    yield rest + data


def _parsed(block: bytes, before: int, limit: int | None = None) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        number = before + len(records) + 1
        try:
            record = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise DataError(f"row {number:,} is no JSON object in one line: {error}") from error
        if not isinstance(record, dict):
            raise DataError(f"row {number:,} is no JSON object")
        records.append(record)
        if len(records) == limit:
            break
    return records


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a name is there twice")
    return record


def _plan(records: list[dict[str, Any]], planner: Planner) -> Plan:
    return planner(tuple(dict.fromkeys(name for record in records for name in record)))


def _quick(block: bytes, plan: Plan) -> tuple[Mapping[str, Any], int] | None:
    """Let Arrow read a block; None if it has values of several types, or looks into texts."""
    try:
        table = pyarrow.json.read_json(
            io.BytesIO(block),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
        ).combine_chunks()
        batch = {}
        for column, role in plan.roles.items():
            name = plan.keys[column]
            if name not in table.column_names:
                array = pa.nulls(table.num_rows)
            else:
                array = table.column(name).combine_chunks()
            if pa.types.is_timestamp(array.type):
                return None
            if role == "text" and pa.types.is_floating(array.type):
                return None  # an id of more digits than a float has
            batch[column] = canonical(array, role, plan.names[column])
    except pa.ArrowInvalid:
        return None
    return batch, table.num_rows


def _slow(records: list[dict[str, Any]], plan: Plan, before: int) -> tuple[Mapping[str, Any], int]:
    batch = {
        column: _array([record.get(plan.keys[column]) for record in records], role, before)
        for column, role in plan.roles.items()
    }
    return batch, len(records)


def _array(values: list[Any], role: Role, before: int) -> ArrowArray:
    nested = next((n for n, v in enumerate(values) if isinstance(v, (dict, list))), None)
    if nested is not None:
        raise DataError(f"row {before + nested + 1:,} holds a list or an object in a cell")
    if role == "number" and all(_is_number(value) for value in values):
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    texts = pa.array([None if value is None else _text(value) for value in values], pa.string())
    return texts.dictionary_encode() if role == "category" else texts


def _is_number(value: object) -> bool:
    # A whole number that no float can hold is a text, and refused as one.
    return value is None or (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGE
    )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    # Half a character, which JSON can spell, is no text.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
