"""How many ids of a table come again, without all of them in memory.

Each id becomes a number of 64 bits. A file keeps those of a piece by their first byte, and those of
one first byte are compared at a time. Ten million different ids are taken for one fewer with a
probability of one in 300,000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from churn_serving.bulk.columns import without_views

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from churn_serving.bulk.columns import ArrowArray

__all__ = ["count_repeated", "hashes_of", "write_hashes"]

_WORD: Final = 8
_MASKS: Final = np.array([(1 << 8 * letters) - 1 for letters in range(_WORD + 1)], np.uint64)
"""Keeps so many letters of a word, the first ones."""
_DRAWERS: Final = 256
_BITS: Final = 64
_BITS_OF_A_BYTE: Final = 8
_FIRST_BYTE: Final = np.uint64(_BITS - _BITS_OF_A_BYTE)
_SPARE_BITS: Final = 3
"""Eight seats for each guest."""


def hashes_of(ids: ArrowArray) -> NDArray[np.uint64]:
    """Return a number for each id that is there: equal ids have equal numbers.

    Args:
        ids: Of one of the types that ``bulk.columns.require_id_type`` lets through.
    """
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    ids = without_views(ids).drop_null()
    if pa.types.is_temporal(ids.type):  # as texts, they would need a table of time zones
        ids = ids.view(pa.int32() if ids.type.bit_width == _BITS // 2 else pa.int64())
    if pa.types.is_integer(ids.type):
        return _mixed(ids.to_numpy().astype(np.uint64))
    is_bytes = pa.types.is_large_binary(ids.type) or pa.types.is_fixed_size_binary(ids.type)
    texts = ids.cast(pa.binary()) if is_bytes else ids
    texts = texts if pa.types.is_binary(texts.type) else texts.cast(pa.string())
    _, places, letters = texts.buffers()
    ends = np.frombuffer(places, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    first, last = (int(ends[0]), int(ends[-1])) if len(texts) else (0, 0)
    starts, sizes = ends[:-1] - first, np.diff(ends)
    # Eight letters are one number, wherever they begin; what lies behind an id is masked out.
    data = np.zeros(last - first + _WORD, np.uint8)
    data[: last - first] = np.frombuffer(letters or b"", np.uint8)[first:last]
    words = np.ndarray(last - first + 1, "<u8", data, strides=(1,))
    hashes = _mixed(sizes.astype(np.uint64))
    some = np.arange(len(texts))
    for done in range(0, int(sizes.max(initial=0)), _WORD):
        if done:
            some = some[sizes[some] > done]
        left = np.minimum(sizes[some] - done, _WORD)
        hashes[some] = _mixed(hashes[some] ^ (words[starts[some] + done] & _MASKS[left]))
    return hashes


def write_hashes(path: Path, hashes: Iterable[NDArray[np.uint64]]) -> None:
    """Keep the numbers of a piece, those of one first byte together, behind where each begins."""
    numbers = np.concatenate([np.empty(0, np.uint64), *hashes])
    drawer = (numbers >> _FIRST_BYTE).astype(np.uint8)
    begins = np.cumsum([0, *np.bincount(drawer, minlength=_DRAWERS)])
    with path.open("wb") as file:
        begins.astype(np.uint64).tofile(file)
        numbers[np.argsort(drawer, kind="stable")].tofile(file)


def count_repeated(paths: Iterable[Path]) -> int:
    """Return how many ids are there again: all of them, less the different ones."""
    files = [np.memmap(path, np.uint64, "r") for path in paths]
    begins = [file[: _DRAWERS + 1].astype(np.intp) + _DRAWERS + 1 for file in files]
    repeated = 0
    for drawer in range(_DRAWERS):
        parts = [
            file[places[drawer] : places[drawer + 1]]
            for file, places in zip(files, begins, strict=True)
        ]
        repeated += _repeated(np.concatenate([np.empty(0, np.uint64), *parts]))
    return repeated


def _repeated(numbers: NDArray[np.uint64]) -> int:
    """Return how many numbers are there again, without sorting them all.

    Each takes a seat by its next bits; who finds his seat taken is looked at, and who took it.
    """
    bits = len(numbers).bit_length() + _SPARE_BITS
    seat = (numbers << np.uint64(_BITS_OF_A_BYTE) >> np.uint64(_BITS - bits)).astype(np.intp)
    guests = np.arange(len(numbers), dtype=np.int32)
    taken = np.empty(1 << bits, np.int32)
    taken[seat] = guests
    late = np.flatnonzero(taken[seat] != guests)
    suspects = np.unique(np.concatenate([late, taken[seat[late]]]))
    ordered = np.sort(numbers[suspects])
    return int(np.count_nonzero(ordered[1:] == ordered[:-1]))


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread numbers over all bits, no two to the same: the finalizer of MurmurHash3."""
    mixed: NDArray[Any] = numbers.copy()
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed ^= mixed >> np.uint64(33)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(33)
    return mixed
