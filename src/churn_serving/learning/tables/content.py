"""The bytes of one table, unpacked on the way.

A file is judged by its content, not by the end of its name. What is packed is unpacked within
bounds: a small archive must not fill the memory or the disk.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa

from churn_serving.errors import DataError
from churn_serving.features.layouts import some_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_BYTES", "PARQUET_NAMES", "Content"]

MAX_BYTES: Final = 8 << 30
"""How much a packed table may unpack to, and how much is taken from standard input."""

_SMALL: Final = 256 << 20
_MAX_RATIO: Final = 250
"""No table packs better than this; what does, and is not small, was made to fill a disk."""

PARQUET_NAMES: Final = (".parquet", ".pq")

_CHUNK: Final = 1 << 20
_MEGABYTE: Final = 1_000_000
_TABLES: Final = (".csv", ".tsv", ".txt", ".tab", ".json", ".jsonl", ".ndjson", *PARQUET_NAMES)

_UNREADABLE: Final = (
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls): save the sheet as CSV"),
    (b"%PDF", "a PDF document"),
    (b"SQLite format 3\x00", "an SQLite database: export the table as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x1f\x9d", "packed by compress (.Z): unpack it first"),
    (b"\x89HDF", "an HDF5 file: export the table as CSV or Parquet"),
    (b"Obj\x01", "an Avro file: export the table as CSV or Parquet"),
    (b"ARROW1", "an Arrow (Feather) file: save the table as Parquet"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"\x80\x04\x95", "a pickle: save the table as CSV or Parquet"),
    (b"\x80\x05\x95", "a pickle: save the table as CSV or Parquet"),
    (b"\x7fELF", "a program"),
)
_TAR: Final = slice(257, 262)


_Unpacker: TypeAlias = "Callable[[IO[bytes]], Any]"


def _by_arrow(codec: str) -> _Unpacker:
    """Return what unpacks with a codec that Python has not."""

    def unpacker(file: IO[bytes]) -> IO[bytes]:
        # Arrow closes what it reads, and the file is still needed.
        copy = os.fdopen(os.dup(file.fileno()), "rb")
        copy.seek(0)
        unpacked: IO[bytes] = pa.CompressedInputStream(copy, codec)
        return unpacked

    return unpacker


_PACKERS: Final[tuple[tuple[re.Pattern[bytes], str, _Unpacker], ...]] = (
    (re.compile(rb"\x1f\x8b"), "gz", gzip.open),
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), "bz2", bz2.open),
    (re.compile(rb"\xfd7zXZ\x00"), "xz", lzma.open),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zst", _by_arrow("zstd")),
    (re.compile(rb"\x04\x22\x4d\x18"), "lz4", _by_arrow("lz4")),
)
_DAMAGED: Final = (
    EOFError,
    OSError,
    RuntimeError,  # an archive with a password, and one that needs a method nobody has
    ValueError,  # Arrow's own errors are of this kind
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)


class Content:
    """The unpacked bytes of one table, read from front to end.

    Attributes:
        name: What to call the table in a message.
        packed: How it was packed, for people; None if it was not.
        size: How many bytes the file has on disk.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self.packed: str | None = None
        self.size = os.fstat(file.fileno()).st_size
        self._file = self._source = file
        self._taken = 0
        self._unpack()

    @property
    def done(self) -> int:
        """How many bytes of the file were read."""
        return max(self._file.tell(), 0) if self.packed else self._taken

    @property
    def head(self) -> bytes:
        """The first bytes, which say what kind of table it is."""
        return self._head

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most ``size``.

        Raises:
            DataError: The archive is damaged, cut off, or unpacks to more than any table has.
        """
        if self._head and self._taken == 0:
            data = self._head + self._take(max(size - len(self._head), 0) if size >= 0 else -1)
        else:
            data = self._take(size)
        self._taken += len(data)
        if self.packed:
            self._refuse_a_bomb()
        return data

    def spooled(self) -> IO[bytes]:
        """Return the bytes as a file that can be read from any place, as Parquet needs it."""
        if not self.packed:
            self._file.seek(0)
            return self._file
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the reader closes it
        try:
            while data := self.read(_CHUNK):
                copy.write(data)
        except BaseException:
            copy.close()
            raise
        copy.seek(0)
        return copy

    def _take(self, size: int) -> bytes:
        try:
            return bytes(self._source.read(size))
        except _DAMAGED as error:
            if not self.packed:
                raise DataError(f"Cannot read {self.name}: {_reason(error)}.") from error
            cut = isinstance(error, EOFError) or "truncated" in str(error).lower()
            what = "is cut off" if cut else f"is damaged ({_reason(error)})"
            raise DataError(f"{self.name}: the .{self.packed} archive {what}.") from error

    def _unpack(self) -> None:
        self._head = self._take(512)
        what = next((what for magic, what in _UNREADABLE if self._head.startswith(magic)), None)
        if self._head[_TAR] == b"ustar":
            what = "a tar archive: unpack it first"
        if what is not None:
            raise DataError(f"{self.name} is {what}.")
        kinds = [(kind, packer) for magic, kind, packer in _PACKERS if magic.match(self._head)]
        zipped = self._head.startswith((b"PK\x03\x04", b"PK\x05\x06"))
        if not kinds and not zipped:
            return
        if self.packed:
            raise DataError(f"{self.name} is packed twice: unpack it first.")
        self._file.seek(0)
        if zipped:
            self.packed = "zip"
            self._source = self._only_member()
        else:
            self.packed, packer = kinds[0]
            self._source = packer(self._file)
        self._unpack()

    def _only_member(self) -> IO[bytes]:
        try:
            archive = zipfile.ZipFile(self._file)
            members = [
                member
                for member in archive.infolist()
                if not member.is_dir()
                and not member.filename.startswith("__MACOSX/")
                and not Path(member.filename).name.startswith(".")
            ]
            if any(member.filename == "xl/workbook.xml" for member in members):
                raise DataError(f"{self.name} is an Excel workbook: save the sheet as CSV.")
            tables = [m for m in members if Path(m.filename).suffix.lower() in _TABLES]
            if len(members) != 1 and len(tables) == 1:
                members = tables
            if len(members) != 1:
                found = some_of([member.filename for member in members]) or "none"
                raise DataError(f"{self.name}: expected an archive of one table, found {found}.")
            if members[0].flag_bits & 1:
                raise DataError(f"{self.name} is locked by a password: unpack it first.")
            return archive.open(members[0])
        except _DAMAGED as error:
            what = f"{self.name}: the .zip archive is damaged or cut off ({_reason(error)})."
            raise DataError(what) from error

    def _refuse_a_bomb(self) -> None:
        ratio = self._taken / max(self.size, 1)
        if self._taken > MAX_BYTES or (self._taken > _SMALL and ratio > _MAX_RATIO):
            raise DataError(
                f"{self.name} unpacks to more than {self._taken // _MEGABYTE:,} MB, "
                f"{ratio:,.0f} times its size: expected a table."
            )


def _reason(error: Exception) -> str:
    """Return the first line of what a library says, without its full stop."""
    text = str((isinstance(error, OSError) and error.strerror) or error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
