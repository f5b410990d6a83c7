"""Columns that have a type, of Parquet and of JSON, as those of a CSV file: text or float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from churn_serving.errors import DataError

if TYPE_CHECKING:
    from churn_serving.features.layouts import Role
    from churn_serving.learning.tables.parts import ArrowArray

__all__ = ["canonical"]


def canonical(array: ArrowArray, role: Role, name: str) -> ArrowArray:
    """Return a column in the form that ``Part`` promises for its role.

    Args:
        array: An Arrow array.
        role: What the column is read for.
        name: What the table calls it.

    Raises:
        DataError: Such values cannot be what the column is for.
    """
    array = _plain(array)
    kind = array.type
    is_time = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    if pa.types.is_null(kind):
        array = array.cast(pa.string())
    elif pa.types.is_boolean(kind):
        array = pc.if_else(array, "true", "false")
    elif pa.types.is_decimal(kind):
        array = array.cast(pa.string())  # the nearest float64 is that of its digits
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if role == "number":
            return array.cast(pa.float64(), safe=False)
        return _number_texts(array, role)
    elif is_time and role in {"time", "text"}:
        return array.cast(pa.timestamp("us"), safe=False) if role == "time" else _texts(array)
    elif not pa.types.is_string(kind):
        expected = {"number": "numbers", "time": "times"}.get(role, "texts")
        raise DataError(f"Column '{name}': expected {expected}, found the type {kind}.")
    return array.dictionary_encode() if role == "category" else array


def _plain(array: ArrowArray) -> ArrowArray:
    """Unwrap what is only another form of a simple column."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    elif isinstance(array, pa.ExtensionArray):
        array = array.storage
        kind = array.type
    elif pa.types.is_run_end_encoded(kind):
        array = pc.run_end_decode(array)
        kind = array.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.string())
    if (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    ):
        return array.cast(pa.binary()).cast(pa.string())
    return array


def _number_texts(array: ArrowArray, role: Role) -> ArrowArray:
    """Write numbers as texts: 1.0 in a column with gaps is 1."""
    if role == "time":
        return array.cast(pa.float64(), safe=False)
    if pa.types.is_floating(array.type):
        array = array.cast(pa.float64())
        encoded = array.dictionary_encode()
        texts = [
            None if value is None else str(int(value)) if value.is_integer() else str(value)
            for value in encoded.dictionary.to_pylist()
        ]
        texts = [None if text == "nan" else text for text in texts]
        array = pa.DictionaryArray.from_arrays(encoded.indices, pa.array(texts, pa.string()))
        return array if role == "category" else array.dictionary_decode()
    return array.cast(pa.string()).dictionary_encode() if role == "category" else _texts(array)


def _texts(array: ArrowArray) -> ArrowArray:
    return array.cast(pa.string())
