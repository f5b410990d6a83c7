"""Which customers a model was trained on, kept without the customers.

Two models are compared fairly only on customers whom neither has seen. So a model keeps a keyed
hash of each of its training rows, and of each customer's id where the table has ids. The key is
drawn for each model: hashes of two models cannot be matched with each other, nor looked up in a
table made in advance. Whoever has the model and already knows a customer's row can still ask
whether it was trained on: keep the file as you keep the model.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from churn_serving.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray

__all__ = ["Fingerprints", "fingerprints", "seen"]

_KEY_BYTES: Final = 16
_HASH_BYTES: Final = 8
"""Of a million hashes, one in ten million new rows is taken for a known one."""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The hashes of a model's training rows.

    Attributes:
        key: Of the hashes, drawn for this model.
        hashes: Ascending, without doubles.
    """

    key: bytes
    hashes: NDArray[np.uint64]

    def to_bytes(self) -> bytes:
        """Return the key and the hashes, 8 bytes each, as a file keeps them."""
        return self.key + self.hashes.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> Fingerprints:
        """Read what ``to_bytes`` wrote.

        Raises:
            DataError: It did not write this.
        """
        if len(content) < _KEY_BYTES or (len(content) - _KEY_BYTES) % _HASH_BYTES:
            raise DataError("The fingerprints of the training rows are not whole.")
        hashes = np.frombuffer(content, "<u8", offset=_KEY_BYTES).astype(np.uint64)
        if (hashes[1:] <= hashes[:-1]).any():
            raise DataError("The fingerprints of the training rows are not in order.")
        return cls(content[:_KEY_BYTES], hashes)


def fingerprints(
    X: FloatArray, ids: NDArray[Any] | None = None, key: bytes | None = None
) -> Fingerprints:
    """Hash training rows.

    Args:
        X: The rows of the feature matrix.
        ids: The customers' ids as text, '' where one has none; None: the table has no ids.
        key: 16 bytes; None: draws them.
    """
    key = secrets.token_bytes(_KEY_BYTES) if key is None else key
    hashes = _hashes(key, _rows(X))
    if ids is not None:
        hashes = np.concatenate([hashes, _hashes(key, _texts(ids[ids != ""]))])
    return Fingerprints(key, np.unique(hashes))


def seen(known: Fingerprints, X: FloatArray, ids: NDArray[Any] | None = None) -> NDArray[np.bool_]:
    """Tell of each row whether it, or its customer, was among the training rows."""
    found = np.isin(_hashes(known.key, _rows(X)), known.hashes)
    if ids is not None:
        # Who has no id is known by the row alone.
        found |= np.isin(_hashes(known.key, _texts(ids)), known.hashes) & (ids != "")
    return found


def _rows(X: FloatArray) -> Iterable[bytes]:
    # Adding 0 makes a 0 of -0, which is the same number in other bytes.
    return (b"row:" + row.tobytes() for row in np.asarray(X, "<f8") + 0.0)


def _texts(ids: NDArray[Any]) -> Iterable[bytes]:
    return (b"id:" + each.encode() for each in ids)


def _hashes(key: bytes, contents: Iterable[bytes]) -> NDArray[np.uint64]:
    digests = b"".join(
        blake2b(content, key=key, digest_size=_HASH_BYTES).digest() for content in contents
    )
    return np.frombuffer(digests, "<u8").astype(np.uint64)
