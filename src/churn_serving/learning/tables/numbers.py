"""Numbers as people write them: decimal commas, groups of thousands, a sign of money.

One table is written in one way. What could mean two numbers, like ``1,234``, is read only if other
cells of the table say which it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.tables.parts import ArrowArray

__all__ = ["Numbers", "read_numbers"]

_GROUP: Final = r"[ '\x{2019}\x{a0}\x{202f}]"
_EXPONENT: Final = r"(?:[eE][+-]?[0-9]+)?"


def _way(point: str, comma: str) -> str:
    whole = rf"(?:[0-9]+|[0-9]{{1,3}}(?:{comma}[0-9]{{3}})+|[0-9]{{1,3}}(?:{_GROUP}[0-9]{{3}})+)"
    return rf"^[+-]?(?:{whole}(?:{point}[0-9]*)?|{point}[0-9]+){_EXPONENT}$"


_PLAIN: Final = r"^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_WITH_POINT: Final = _way(r"\.", ",")
_WITH_COMMA: Final = _way(",", r"\.")
_NO_NUMBER: Final = r"(?i)^(?:nan|[+-]?inf(?:inity)?)$"
_MISSING: Final = r"(?i)^(?:|na|n/a|null|none|\\N)$"
_MONEY: Final = ("US$", "$", "€", "£", "¥", "₹", "USD", "EUR", "GBP", "CHF")


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column of numbers.

    Attributes:
        values: The numbers; NaN where there is none.
        missing: Where the cell is empty, or says that there is no value.
        bad: Where the cell holds something that is no number, or could be two.
    """

    values: FloatArray
    missing: NDArray[np.bool_]
    bad: NDArray[np.bool_]


def read_numbers(
    columns: Mapping[str, Sequence[ArrowArray]], money: Sequence[str]
) -> tuple[dict[str, Numbers], tuple[str, ...]]:
    """Read columns, each a list of Arrow arrays of texts or of float64.

    Args:
        columns: The columns by name.
        money: Which of them may carry a currency, if all their cells do.

    Returns:
        The numbers, and notes about how they are written.
    """
    quick = {name: _quick(chunks) for name, chunks in columns.items()}
    odd = {name for name, numbers in quick.items() if numbers.bad.any()}
    if not odd:
        return quick, ()
    texts = {name: [_trimmed(chunk) for chunk in chunks] for name, chunks in columns.items()}
    notes = []
    mark = _mark(texts, [name for name in money if name in odd])
    if mark is not None:
        for name in money:
            texts[name] = [_without(chunk, mark) for chunk in texts[name]]
        notes.append(f"amounts in '{mark}'")
    pattern, comma = _pattern(texts)
    if comma:
        notes.append("decimal commas")
    # With decimal commas, what was quickly read as 1.234 is a group of thousands.
    again = texts if comma else odd
    slow = {name: _slow(texts[name], pattern, comma=comma) for name in again}
    return {name: slow.get(name, numbers) for name, numbers in quick.items()}, tuple(notes)


def _quick(chunks: Sequence[ArrowArray]) -> Numbers:
    """Read numbers as computers write them; whatever else there is counts as bad."""
    parts = []
    for chunk in chunks:
        if not _is_text(chunk):
            parts.append(_typed(chunk))
            continue
        try:
            values = pc.cast(chunk, pa.float64()).to_numpy(zero_copy_only=False)
            missing = np.isnan(values)
            bad = np.zeros(len(values), bool)
        except pa.ArrowInvalid:
            text = _trimmed(chunk)
            plain = pc.match_substring_regex(text, _PLAIN)
            missing = _mask(pc.match_substring_regex(text, _MISSING))
            values = pc.cast(pc.if_else(plain, text, None), pa.float64())
            values = values.to_numpy(zero_copy_only=False)
            bad = np.isnan(values) & ~missing
        parts.append((values, missing, bad))
    return _joined(parts)


def _slow(texts: Sequence[ArrowArray], pattern: str, *, comma: bool) -> Numbers:
    parts = []
    for text in texts:
        if not _is_text(text):
            parts.append(_typed(text))
            continue
        missing = _mask(pc.match_substring_regex(text, _MISSING))
        undefined = _mask(pc.match_substring_regex(text, _NO_NUMBER))
        fits = pc.match_substring_regex(text, pattern)
        plain = pc.replace_substring_regex(pc.if_else(fits, text, None), _GROUP, "")
        plain = pc.replace_substring(plain, "." if comma else ",", "")
        if comma:
            plain = pc.replace_substring(plain, ",", ".")
        values = np.array(pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False))
        bad = ~_mask(fits) & ~missing & ~undefined
        if undefined.any():
            words = text.filter(pa.array(undefined)).to_pylist()
            values[undefined] = [float(word) for word in words]
            missing |= np.isnan(values) & undefined
        parts.append((values, missing, bad))
    return _joined(parts)


def _typed(chunk: ArrowArray) -> tuple[FloatArray, NDArray[np.bool_], NDArray[np.bool_]]:
    values = chunk.to_numpy(zero_copy_only=False)
    return values, np.isnan(values), np.zeros(len(values), bool)


def _joined(parts: Sequence[Sequence[NDArray[Any]]]) -> Numbers:
    values, missing, bad = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    return Numbers(values, missing, bad)


def _pattern(texts: Mapping[str, Sequence[ArrowArray]]) -> tuple[str, bool]:
    """Find out whether the table's numbers have decimal commas.

    Only cells that can be read in one way say so. Where none does, a group of thousands and a
    decimal comma cannot be told apart, and no comma is read.
    """
    points = commas = 0
    for chunks in texts.values():
        for text in filter(_is_text, chunks):
            point = _mask(pc.match_substring_regex(text, _WITH_POINT))
            comma = _mask(pc.match_substring_regex(text, _WITH_COMMA))
            points += int((point & ~comma).sum())
            commas += int((comma & ~point).sum())
    if commas > points:
        return _WITH_COMMA, True
    if points:
        return _WITH_POINT, False
    return _PLAIN, False


def _mark(texts: Mapping[str, Sequence[ArrowArray]], columns: Sequence[str]) -> str | None:
    """Return the sign of money that every cell of the columns carries, if one does."""
    chunks = [chunk for name in columns for chunk in texts[name]]
    if not chunks or not all(map(_is_text, chunks)):
        return None
    for mark in _MONEY:
        present = [
            pc.or_(pc.starts_with(chunk, mark), pc.ends_with(chunk, mark)) for chunk in chunks
        ]
        if any(pc.any(marked).as_py() for marked in present):
            empty = [pc.match_substring_regex(chunk, _MISSING) for chunk in chunks]
            whole = zip(present, empty, strict=True)
            return mark if all(pc.all(pc.or_(*pair)).as_py() for pair in whole) else None
    return None


def _without(chunk: ArrowArray, mark: str) -> ArrowArray:
    if not _is_text(chunk):
        return chunk
    for take, end in ((pc.starts_with, True), (pc.ends_with, False)):
        size = len(mark)
        cut = pc.utf8_slice_codeunits(chunk, size if end else 0, None if end else -size)
        chunk = pc.if_else(take(chunk, mark), cut, chunk)
    return pc.utf8_trim_whitespace(chunk)


def _trimmed(chunk: ArrowArray) -> ArrowArray:
    return pc.utf8_trim_whitespace(pc.fill_null(chunk, "")) if _is_text(chunk) else chunk


def _is_text(chunk: ArrowArray) -> bool:
    return bool(pa.types.is_string(chunk.type))


def _mask(mask: ArrowArray) -> NDArray[np.bool_]:
    values: NDArray[np.bool_] = mask.to_numpy(zero_copy_only=False)
    return values
