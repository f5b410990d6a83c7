"""From what a user names to open files: a file, standard input, a pipe, a folder of parts."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final, TypeAlias

from churn_serving.errors import DataError
from churn_serving.features.layouts import some_of
from churn_serving.learning.tables.content import MAX_BYTES, PARQUET_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = [
    "STANDARD_INPUT",
    "Progress",
    "checksum",
    "opened",
    "parts_of",
]

Progress: TypeAlias = "Callable[[str, int, int], None]"
"""Told what is being done, how much is done, and of how much (0: nobody knows)."""

STANDARD_INPUT: Final = "-"

_CHUNK: Final = 1 << 20
_MEGABYTE: Final = 1_000_000


def parts_of(path: Path) -> list[Path]:
    """Return the files of the table: the file itself, or the Parquet parts of a folder.

    Raises:
        DataError: There is no such file, it is none that can be read, or the folder has no parts.
    """
    if str(path) == STANDARD_INPUT:
        return [path]
    if url := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", str(path)):
        address = re.sub("/+", "//", str(path), count=1)  # a path holds no double slash
        raise DataError(
            f"Cannot read {address}: {url[1]} addresses are not opened; download the table, or "
            "send it through standard input with --data -."
        )
    try:
        if str(path).startswith("~") and not path.exists():
            path = path.expanduser()
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _parts_in(path)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    except (RuntimeError, ValueError) as error:
        # No home for a '~name', or a name that no file can have.
        raise DataError(f"Cannot read {str(path)!r}: {str(error).rstrip('.')}.") from error
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise DataError(f"Cannot read {path}: it is a device or a socket, no file.")
    return [path]


@contextmanager
def opened(path: Path, progress: Progress) -> Iterator[IO[bytes]]:
    """Open a file. What can be read only once, standard input or a pipe, is copied to one first.

    Raises:
        DataError: It cannot be read, or it changed while it was read.
    """
    try:
        if str(path) == STANDARD_INPUT:
            if sys.stdin is None:
                raise DataError("Cannot read standard input: it is closed.")
            with _copied(sys.stdin.buffer, progress) as file:
                yield file
            return
        with path.open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                with _copied(file, progress) as copy:
                    yield copy
                return
            before = os.fstat(file.fileno())
            yield file
            after = os.fstat(file.fileno())
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DataError(f"{path.name} changed while it was read: try again.")


def checksum(file: IO[bytes], progress: Progress) -> str:
    """Return the SHA-256 of a file, which is at its beginning before and after."""
    digest = hashlib.sha256()
    size, done = os.fstat(file.fileno()).st_size, 0
    while data := file.read(8 * _CHUNK):
        digest.update(data)
        done += len(data)
        progress("checksum (MB)", done // _MEGABYTE, max(size // _MEGABYTE, 1))
    file.seek(0)
    return digest.hexdigest()


@contextmanager
def _copied(source: IO[bytes], progress: Progress) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        size = 0
        while data := source.read(_CHUNK):
            file.write(data)
            size += len(data)
            if size > MAX_BYTES:
                raise DataError(f"Standard input holds more than {MAX_BYTES // _MEGABYTE:,} MB.")
            progress("copying the input (MB)", size // _MEGABYTE, 0)
        file.seek(0)
        yield file


def _parts_in(folder: Path) -> list[Path]:
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and not any(part.startswith(("_", ".")) for part in file.relative_to(folder).parts)
    )
    parts = [file for file in files if file.suffix.lower() in PARQUET_NAMES]
    if not parts:
        found = some_of([str(file.relative_to(folder)) for file in files]) or "none"
        raise DataError(f"{folder} is a folder: expected Parquet files in it, found {found}.")
    if len(parts) < len(files):
        others = some_of([str(f.relative_to(folder)) for f in files if f not in set(parts)])
        raise DataError(f"{folder} is a folder: expected Parquet files alone, found {others}, too.")
    return parts
