"""The folder of a run: its parts, what each of them holds, and whether it is complete.

    DIR/run=<id>/scored/part-00000.parquet      the results
                 rejected/part-00000.parquet    the rows that are no customers, if a piece has any
                 _receipts/00000.json           a piece is done: written after its parts
                 _MANIFEST.json                 what went in, what came out
                 _SUCCESS                       all of it is there

The id is a hash of everything that decides the content: the same command finds its run again. A
file appears under its name when it is whole, and stays as it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from churn_serving.errors import DataError
from churn_serving.features.layouts import some_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from churn_serving.bulk.tables import Piece

__all__ = [
    "MANIFEST",
    "REJECTED",
    "SCORED",
    "SUCCESS",
    "Run",
    "give_name",
    "run_id",
    "scratch_of",
    "write_whole",
]

MANIFEST: Final = "_MANIFEST.json"
SUCCESS: Final = "_SUCCESS"
SCORED: Final = "scored"
REJECTED: Final = "rejected"
_RECEIPTS: Final = "_receipts"
_LOCK: Final = "_lock"
_PREFIX: Final = "run="
_TEMPORARY: Final = ".tmp"
_DIGITS: Final = 16


def run_id(identity: Mapping[str, Any]) -> str:
    """Return the name of the run that has this identity."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]


class Run:
    """The folder of one run.

    Args:
        output: The folder of all runs.
        name: The id of this one.
    """

    def __init__(self, output: Path, name: str) -> None:
        self.output = output
        self.folder = output / f"{_PREFIX}{name}"

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to be done."""
        return (self.folder / SUCCESS).exists()

    @property
    def manifest(self) -> dict[str, Any]:
        """What went in, what came out.

        Raises:
            DataError: It says nothing sensible.
        """
        try:
            manifest: dict[str, Any] = json.loads((self.folder / MANIFEST).read_bytes())
            manifest["rows"]["in"]
        except FileNotFoundError:
            problem = "is not there"
        except (ValueError, TypeError, KeyError):
            problem = "says nothing sensible"
        else:
            return manifest
        raise DataError(
            f"{self.folder / MANIFEST} {problem}, though the run is complete: remove {self.folder} "
            "and run the command again."
        )

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder, and keep others out of it.

        Raises:
            DataError: The output holds something else, or somebody else is at this run.
        """
        _require_runs(self.output)
        for name in (SCORED, REJECTED, _RECEIPTS):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(f"Another command is at this run: {self.folder}.") from None
            self.clean()
            yield

    def clean(self) -> None:
        """Remove what was begun and is not whole."""
        for path in self.folder.rglob(f"*{_TEMPORARY}"):
            path.unlink(missing_ok=True)

    def part(self, kind: str, piece: Piece) -> Path:
        """Return where a part of a piece's result stands."""
        return self.folder / kind / f"part-{piece.number:05d}.parquet"

    def receipt(self, piece: Piece) -> dict[str, Any] | None:
        """Return what is known of a piece that is done: all of its parts are as they were written.

        None: it is not.
        """
        try:
            receipt: dict[str, Any] = json.loads(self._receipt(piece).read_bytes())
            self.ids(piece).stat()
            for name, size in receipt["parts"].items():
                if (self.folder / name).stat().st_size != size:
                    return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return receipt

    def finish(self, piece: Piece, receipt: Mapping[str, Any]) -> None:
        """Say that a piece is done."""
        write_whole(self._receipt(piece), _json(receipt))

    def tell(self, manifest: Mapping[str, Any]) -> None:
        """Say what went in, and what came out."""
        write_whole(self.folder / MANIFEST, _json(manifest))

    def complete(self) -> None:
        """Say that all of it is there."""
        write_whole(self.folder / SUCCESS, b"")
        for path in self.folder.joinpath(_RECEIPTS).glob("*.ids"):
            path.unlink(missing_ok=True)

    def ids(self, piece: Piece) -> Path:
        """Return where the hashes of a piece's ids stand until the run is complete."""
        return self._receipt(piece).with_suffix(".ids")

    def _receipt(self, piece: Piece) -> Path:
        return self.folder / _RECEIPTS / f"{piece.number:05d}.json"


def scratch_of(path: Path) -> Path:
    """Return where a file is written before it has its name.

    Of a process that a killed run has left over, it is another place; likewise of one on another
    machine, to which Spark gives a piece when this one seems lost.
    """
    return path.with_name(f"{path.name}.{os.uname().nodename}-{os.getpid()}{_TEMPORARY}")


def give_name(path: Path) -> int:
    """Give a file its name, now that it is whole and on the disk; return its size."""
    scratch = scratch_of(path)
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    scratch.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size


def write_whole(path: Path, content: bytes) -> None:
    """Write a file of which a reader sees all or nothing."""
    try:
        scratch_of(path).write_bytes(content)
        give_name(path)
    except BaseException:
        with suppress(OSError):
            scratch_of(path).unlink(missing_ok=True)
        raise


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def _require_runs(output: Path) -> None:
    """Refuse a folder that holds anything but runs."""
    if not output.exists():
        return
    if not output.is_dir():
        raise DataError(f"{output} is a file: name a folder for the results.")
    others = [
        path.name
        for path in sorted(output.iterdir())
        if not (path.name.startswith((_PREFIX, ".")) and (path.is_dir() or path.name[0] == "."))
    ]
    if others:
        raise DataError(
            f"{output} holds something else than runs ({some_of(others)}): name another folder."
        )
