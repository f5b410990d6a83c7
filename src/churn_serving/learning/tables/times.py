"""A column of times: dates as people and databases write them, or numbers that grow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["read_times"]

_ISO: Final = re.compile(r"\d{4}-\d{2}(-\d{2}([T ].*)?)?")
_PARTS: Final = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})")
_EXPECTED: Final = "a date like 2026-01-31, or a number"
_NO_MONTH: Final = 12


def read_times(chunks: Sequence[Any]) -> tuple[NDArray[Any], NDArray[np.intp], str]:
    """Read a column.

    Args:
        chunks: Arrow arrays of texts, of float64 or of timestamps.

    Returns:
        Dates (datetime64, UTC where they have a zone) or float64; the rows that are neither; and
        what was expected there.
    """
    if all(pa.types.is_timestamp(chunk.type) for chunk in chunks):
        dates = np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in chunks])
        return dates.astype("datetime64[us]"), np.flatnonzero(np.isnat(dates)), _EXPECTED
    if all(pa.types.is_floating(chunk.type) for chunk in chunks):
        numbers = np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in chunks])
        return numbers, np.flatnonzero(~np.isfinite(numbers)), _EXPECTED
    texts = [chunk.cast(pa.string()) for chunk in chunks]
    table = pa.chunked_array(texts).combine_chunks().dictionary_encode()
    words = [word.strip() for word in table.dictionary.to_pylist()]
    values, expected = _read_words(words)
    missing = (
        np.array([np.nan], values.dtype)
        if values.dtype.kind == "f"
        else np.array(["NaT"], values.dtype)
    )
    places = table.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    times = np.concatenate([values, missing])[places]
    return times, np.flatnonzero(pd.isna(times)), expected


def _read_words(words: list[str]) -> tuple[NDArray[Any], str]:
    """Read each different text; what is in the way of none is NaN or NaT."""
    if all(re.fullmatch(r"\d+(\.\d+)?", word) for word in words):
        return np.array([float(word) for word in words]), _EXPECTED
    parts = [match for word in words if (match := _PARTS.fullmatch(word))]
    if len(parts) * 2 > len(words):
        first = any(int(match[1]) > _NO_MONTH for match in parts)
        second = any(int(match[3]) > _NO_MONTH for match in parts)
        if first == second:
            return _no_dates(len(words)), (
                "dates like 2026-01-31: day and month cannot be told apart"
            )
        order = (1, 3) if second else (3, 1)  # month, day
        words = [
            f"{match[4]}-{int(match[order[0]]):02}-{int(match[order[1]]):02}"
            if (match := _PARTS.fullmatch(word))
            else ""
            for word in words
        ]
    kept = [word if _ISO.fullmatch(word) else None for word in words]
    dates = pd.to_datetime(
        pd.Series(kept, dtype=object), format="ISO8601", errors="coerce", utc=True
    )
    return dates.dt.tz_localize(None).to_numpy().astype("datetime64[us]"), _EXPECTED


def _no_dates(number: int) -> NDArray[Any]:
    return np.full(number, "NaT", "datetime64[us]")
