"""The table that is scored: which files it is, whether they fit together, and how it is cut.

A piece is what one process scores at a time: some row groups of a Parquet file, or some lines of a
CSV file. The cut follows from the files alone, so that every run cuts alike.
"""

from __future__ import annotations

import glob
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from churn_serving.bulk import delimited, rowgroups
from churn_serving.bulk.columns import check_types
from churn_serving.bulk.engine import value_column
from churn_serving.errors import DataError
from churn_serving.features.layouts import printable, some_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from churn_serving.bulk.columns import ArrowBatch, ArrowSchema
    from churn_serving.bulk.engine import Engine

__all__ = ["Batch", "File", "Piece", "Table", "batches", "changed", "check_fit", "open_table"]

_MAGIC: Final = b"PAR1"
_ENDINGS: Final = {".parquet": "Parquet", ".parq": "Parquet", ".csv": "CSV", ".tsv": "CSV"}
_STRANGE: Final = {b"\x1f\x8b": "gzip", b"PK": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}


@dataclass(frozen=True, slots=True)
class File:
    """One file of the table.

    Attributes:
        path: Where it is.
        name: What to call it.
        kind: What it is.
        size: In bytes.
        modified: When it was written, in nanoseconds.
        digest: Of the Parquet footer, or of the header of a CSV file.
        detail: How it is to be read.
    """

    path: Path
    name: str
    kind: Literal["Parquet", "CSV"]
    size: int
    modified: int
    digest: str
    detail: Any

    @property
    def identity(self) -> dict[str, object]:
        """What tells whether it is still the same file."""
        return {
            "path": str(self.path),
            "size": self.size,
            "modified": self.modified,
            "digest": self.digest,
        }


class Piece(NamedTuple):
    """What one process scores at a time.

    Attributes:
        number: Counted from 0, over all files.
        file: Of which it is a part.
        first: The first row group, or byte.
        end: The one behind the last.
        before: How many rows of the file come before it.
        rows: How many it has.
    """

    number: int
    file: File
    first: int
    end: int
    before: int
    rows: int


class Table(NamedTuple):
    """A table of one or more files.

    Attributes:
        files: In the order of their names.
        schemas: The names and types of the columns of each.
        pieces: In the order of the rows.
    """

    files: tuple[File, ...]
    schemas: tuple[ArrowSchema, ...]
    pieces: tuple[Piece, ...]

    @property
    def schema(self) -> ArrowSchema:
        """The columns of the first file; every file has those that are read."""
        return self.schemas[0]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(piece.rows for piece in self.pieces)


class Batch(NamedTuple):
    """Some rows of a piece.

    Attributes:
        rows: The numbers of the rows in their file, counted from 1, the header left out.
        content: Their columns; None: the rows are no rows of this table.
        problems: Then, what is wrong with each.
    """

    rows: Any
    content: ArrowBatch | None
    problems: Sequence[str] = ()


def open_table(place: str) -> Table:
    """Find the files of a table, and how they are cut.

    Args:
        place: A file, a folder, or a pattern with ``*``.

    Raises:
        DataError: There is no such table, or its files are no table; the text names the file.
    """
    files, schemas = [], []
    pieces: list[Piece] = []
    for path, name in _paths(place):
        file, schema, cuts = _opened(path, name)
        files.append(file)
        schemas.append(schema)
        for first, end, before, rows in cuts:
            pieces.append(Piece(len(pieces), file, first, end, before, rows))
    kinds = {file.kind for file in files}
    if len(kinds) > 1:
        raise DataError(f"{place} holds files of Parquet and of CSV: score one kind at a time.")
    table = Table(tuple(files), tuple(schemas), tuple(pieces))
    if not table.rows:
        raise DataError(f"{place} has no rows.")
    return table


def check_fit(table: Table, engine: Engine) -> None:
    """Refuse a table whose files differ in what is read of them.

    Raises:
        DataError: They do; the text names the file and the column.
    """
    first = table.files[0]
    passed = {engine.id, *engine.keep}
    values = [] if engine.value is None else [engine.value]
    for file, schema in zip(table.files, table.schemas, strict=True):
        if engine.value is None and (value := value_column(schema)) is not None:
            raise DataError(
                f"The files do not fit together: {file.name} has a column '{value}', {first.name} "
                "has not."
            )
        for name in engine.columns:
            if schema.names.count(name) != 1:
                raise DataError(
                    f"The files do not fit together: {first.name} has a column '{name}', "
                    f"{file.name} has not (found {some_of(schema.names)})."
                )
            theirs, ours = schema.field(name).type, table.schema.field(name).type
            if name in passed and theirs != ours:
                raise DataError(
                    f"The files do not fit together: the column '{name}' is of the type {ours} in "
                    f"{first.name}, and {theirs} in {file.name}."
                )
        try:
            check_types(schema, engine.plan, values)
        except DataError as error:
            raise _named(file.name, error) from error


def batches(piece: Piece, engine: Engine) -> Iterator[Batch]:
    """Read the columns that are scored, some rows at a time.

    Raises:
        DataError: The file is damaged, or was changed since it was opened.
    """
    file = piece.file
    _require_unchanged(file)
    reader = rowgroups if file.kind == "Parquet" else delimited
    try:
        for rows, content, problems in reader.read(piece, engine):
            yield Batch(rows, content, problems)
    except DataError as error:
        raise _named(file.name, error) from error
    except (ValueError, OSError) as error:  # Arrow's own errors are of these kinds
        raise _unreadable(file.name, error) from error
    _require_unchanged(file)


def changed(files: Sequence[File]) -> str | None:
    """Return the name of the first file that is no longer what it was; None: all are."""
    for file in files:
        try:
            now = file.path.stat()
        except OSError:
            return file.name
        if (now.st_size, now.st_mtime_ns) != (file.size, file.modified):
            return file.name
    return None


def _require_unchanged(file: File) -> None:
    if changed([file]) is not None:
        raise DataError(
            f"{file.name} was changed during the run: run the command again, for the new table."
        )


def _paths(place: str) -> list[tuple[Path, str]]:
    """Return the files, and what to call each."""
    if "://" in place or place == "-":
        raise DataError(f"Cannot read {place}: expected a file, a folder, or a pattern with '*'.")
    path = Path(place).expanduser()
    try:
        if path.is_dir():
            found = _in_folder(path)
        elif glob.has_magic(place) and not path.exists():
            names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - a pattern, no Path
            found = [(Path(name), name) for name in names if Path(name).is_file()]
        elif not path.exists():
            raise DataError(f"Cannot read {place}: there is no such file or folder.")
        elif not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"Cannot read {place}: it is a pipe or a device, no file.")
        else:
            found = [(path, path.name)]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"Cannot read {printable(place)}: {reason}.") from error
    if not found:
        raise DataError(f"No file is named like {place}.")
    return [(Path(os.path.realpath(path)), printable(name)) for path, name in found]


def _in_folder(folder: Path) -> list[tuple[Path, str]]:
    names = [
        Path(root, name).relative_to(folder) for root, _, files in os.walk(folder) for name in files
    ]
    # As Spark and others have it, names that begin so are not of the table.
    names = sorted(n for n in names if not any(part.startswith(("_", ".")) for part in n.parts))
    known = [name for name in names if name.suffix.lower() in _ENDINGS]
    others = [str(name) for name in names if name.suffix.lower() not in _ENDINGS]
    if not known or others:
        found = some_of(others) or "no file"
        raise DataError(
            f"{folder} is a folder: expected files named .parquet or .csv in it, found {found}."
        )
    return [(folder / name, str(name)) for name in known]


def _opened(path: Path, name: str) -> tuple[File, ArrowSchema, list[tuple[int, int, int, int]]]:
    """Return a file, its columns, and its cuts: first, end, rows before, rows."""
    try:
        _require_regular(path)
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            kind = _kind(file.read(len(_MAGIC)), path)
            file.seek(0)
            reader = rowgroups if kind == "Parquet" else delimited
            digest, schema, detail, cuts = reader.look(file)
    except DataError as error:
        raise _named(name, error) from error
    except (ValueError, OSError) as error:
        raise _unreadable(name, error) from error
    opened = File(path, name, kind, before.st_size, before.st_mtime_ns, digest, detail)
    return opened, schema, cuts


def _require_regular(path: Path) -> None:
    """Refuse a pipe before it is opened: that would wait for its other end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError("it is a pipe or a device, no file.")


def _kind(start: bytes, path: Path) -> Literal["Parquet", "CSV"]:
    """Say what a file is by how it begins."""
    if start == _MAGIC:
        return "Parquet"
    for mark, packed in _STRANGE.items():
        if start.startswith(mark):
            raise DataError(f"it is packed with {packed}: unpack it first.")
    if not start:
        raise DataError("it is empty.")
    if _ENDINGS.get(path.suffix.lower()) == "Parquet":
        raise DataError("it is no Parquet file.")
    return "CSV"


def _named(name: str, error: DataError) -> DataError:
    text = str(error)
    return error if text.startswith(name) else DataError(f"{name}: {text}")


def _unreadable(name: str, error: Exception) -> DataError:
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(f"Cannot read {name}: {error.strerror}.")
    lines = str(error).strip().splitlines()
    reason = printable(lines[0])[:200].rstrip(".") if lines else type(error).__name__
    return DataError(f"{name} is not a readable table: {reason}.")
