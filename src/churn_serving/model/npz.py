"""Reading ``.npz`` files of strangers: bounded by the size of the file, and without code.

``numpy.load`` allocates what a header claims. Here an array is a view of bytes that are there.
"""

from __future__ import annotations

import io
import re
import zipfile
from math import prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib import format as npy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["read_arrays", "write_arrays"]

_MAX_ARRAYS: Final = 1024
_HEADER: Final = re.compile(
    rb"\x93NUMPY\x01\x00(?s:..)\{'descr': '(?P<dtype><f8|<i4|<i2|\|b1)', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d{1,12},|\d{1,12}, \d{1,12})\), \} *\n"
)
"""How numpy begins an array of one or two dimensions, of a type that models have."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The oldest time a zip file knows: equal arrays are equal bytes."""


def read_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an uncompressed ``.npz`` file, as views of what was read.

    Raises:
        ValueError: It is none, or one that claims to hold more than it does.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > _MAX_ARRAYS:
                raise ValueError(f"it holds {len(members)} arrays")
            if any(m.compress_type != zipfile.ZIP_STORED for m in members):
                raise ValueError("it is compressed")
            # Else a few bytes could stand for many, by members that overlap.
            if sum(m.file_size for m in members) > len(content):
                raise ValueError("its members are larger than the file")
            names = [member.filename.removesuffix(".npy") for member in members]
            if len({*names}) < len(names):
                raise ValueError("an array is there twice")
            return {
                name: _array(name, archive.read(member))
                for name, member in zip(names, members, strict=True)
            }
    # What zipfile raises on a broken file; a NotImplementedError, say, for a version it has not.
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, OverflowError) as error:
        raise ValueError(f"it is no .npz file ({error})") from error


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the arrays as an uncompressed ``.npz`` file; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(arrays.items()):
            file = io.BytesIO()
            npy.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), file.getvalue())
    return buffer.getvalue()


def _array(name: str, data: bytes) -> NDArray[Any]:
    """Return the array of a ``.npy`` file, of which numpy itself would evaluate the header."""
    header = _HEADER.match(data)
    if header is None:
        raise ValueError(f"the array '{name[:80]}' is not as models have them")
    dtype = np.dtype(header["dtype"].decode())
    shape = tuple(map(int, header["shape"].replace(b",", b" ").split()))
    # Sizes of any length are Python's integers here, so nothing overflows.
    if prod(shape) * dtype.itemsize != len(data) - header.end():
        raise ValueError(f"the array '{name[:80]}' is not as large as its header says")
    array = np.frombuffer(data, dtype, offset=header.end()).reshape(shape)
    if dtype == np.bool_ and (array.view(np.uint8) > 1).any():
        raise ValueError(f"the array '{name[:80]}' holds values that are neither true nor false")
    return array
