"""From a path to columns: whatever kind of file it is, or one sentence why it cannot be read."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from churn_serving.errors import DataError
from churn_serving.features.header import find_header
from churn_serving.features.layouts import plan_for
from churn_serving.learning.tables import columnar
from churn_serving.learning.tables.content import Content
from churn_serving.learning.tables.delimited import read_rows
from churn_serving.learning.tables.opening import (
    STANDARD_INPUT,
    Progress,
    checksum,
    opened,
    parts_of,
)
from churn_serving.learning.tables.parts import MAX_ROWS, Part, too_many_rows
from churn_serving.learning.tables.quotes import lost_rows
from churn_serving.learning.tables.records import read_records
from churn_serving.learning.tables.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from churn_serving.features.layouts import Plan
    from churn_serving.learning.tables.parts import Planner

__all__ = ["Table", "read_table"]

_MEGABYTE: Final = 1_000_000
_MARKUP: Final = (b"<!doctype", b"<html", b"<?xml", b"<table")


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a table, not yet understood.

    Attributes:
        plan: What the columns are.
        columns: For each column its Arrow arrays, one after the other.
        rows: The number of rows.
        files: The name of each file of it, and how many rows that has.
        source: Where it came from, for people.
        sha256: Checksum of the file; of a folder, of the list of its files' checksums.
        notes: What is unusual about the file, in a few words each.
        notices: What somebody should know about it, in a sentence each.
    """

    plan: Plan
    columns: Mapping[str, Sequence[Any]]
    rows: int
    files: tuple[tuple[str, int], ...]
    source: str
    sha256: str
    notes: tuple[str, ...]
    notices: tuple[str, ...]


def read_table(
    path: Path,
    *,
    time: str | None,
    progress: Progress,
    approved: Callable[[str], None] = lambda _: None,
) -> Table:
    """Read the columns of a training table.

    Args:
        path: A file, a folder of Parquet parts, or ``-`` for standard input.
        time: A further column to be read, for the time.
        progress: Told how far it is.
        approved: Refuses, by raising, a file with this checksum before it is read.

    Raises:
        DataError: It cannot be read, is no table, or lacks columns.
    """
    planner = partial(plan_for, time=time)
    files = parts_of(path)
    source = "standard input" if str(path) == STANDARD_INPUT else path.name or str(path)
    folder = path.expanduser() if str(path).startswith("~") and not path.exists() else path
    parts: list[Part] = []
    checksums: list[str] = []
    names: list[str] = []
    for number, file_path in enumerate(files):
        name = source
        if len(files) > 1 or folder.is_dir():
            name = f"{source}/{file_path.relative_to(folder)}"
        label = f"reading {number + 1}/{len(files)} (MB)" if len(files) > 1 else "reading (MB)"
        with opened(file_path, progress) as file:
            sha256 = checksum(file, progress)
            approved(sha256)
            checksums.append(f"{sha256}  {name}\n" if name != source else sha256)
            folders = _folders_of(file_path, folder) if name != source else {}
            told = partial(_told, progress, label)
            parts.append(_read_file(file, name, folders, planner, told))
        names.append(name)
    return _joined(parts, names, source, checksums)


def _told(progress: Progress, label: str, done: int, total: int) -> None:
    progress(label, done // _MEGABYTE, max(total // _MEGABYTE, 1))


def _joined(
    parts: Sequence[Part], names: Sequence[str], source: str, checksums: Sequence[str]
) -> Table:
    plan, rows = parts[0].plan, sum(part.rows for part in parts)
    if rows > MAX_ROWS:
        raise too_many_rows(rows)
    for part in parts[1:]:
        if part.plan.layout is not plan.layout or part.plan.roles != plan.roles:
            raise DataError(
                f"The files of {source} do not fit together: the first is {plan.layout.title} "
                f"with {len(plan.roles)} columns, another is {part.plan.layout.title} with "
                f"{len(part.plan.roles)}."
            )
    if len(checksums) > 1 or "\n" in checksums[0]:
        sha256 = hashlib.sha256("".join(checksums).encode()).hexdigest()
    else:
        sha256 = checksums[0]
    return Table(
        plan=plan,
        columns={
            column: [batch[column] for part in parts for batch in part.batches]
            for column in plan.roles
        },
        rows=rows,
        files=tuple((name, part.rows) for name, part in zip(names, parts, strict=True)),
        source=source,
        sha256=sha256,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        notices=tuple(notice for part in parts for notice in part.notices),
    )


def _folders_of(file: Path, folder: Path) -> dict[str, str]:
    """Return the columns that the names of folders hold: churn=1/part-0.parquet."""
    names = file.relative_to(folder).parts[:-1]
    pairs = (name.partition("=") for name in names if "=" in name)
    return {key: unquote(value) for key, _, value in pairs}


def _read_file(
    file: IO[bytes],
    name: str,
    folders: Mapping[str, str],
    planner: Planner,
    told: Callable[[int, int], None],
) -> Part:
    try:
        content = Content(file, name)
        if content.head.startswith(columnar.MAGIC):
            part = _read_parquet(content, folders, planner, told)
        else:
            part = _read_text(file, content, planner, told)
    except DataError as error:
        raise _named(error, name) from error
    except Exception as error:
        # A reader meets any kind of file here; each of its own errors means "not such a table".
        text = str(error).strip()
        reason = text.splitlines()[0].rstrip(".") if text else type(error).__name__
        raise DataError(f"{name} is not a readable table: {reason}.") from error
    if content.packed:
        part = replace(part, notes=(f".{content.packed}", *part.notes))
    return part


def _named(error: DataError, name: str) -> DataError:
    """Begin what is said about a file with its name; a sentence of its own stays as it is."""
    text = str(error)
    if text[:1].isupper() or text.startswith(name):
        return error
    return DataError(f"{name}: {text.rstrip('.?')}{text[-1] if text[-1] in '.?' else '.'}")


def _read_parquet(
    content: Content,
    folders: Mapping[str, str],
    planner: Planner,
    told: Callable[[int, int], None],
) -> Part:
    def rows_told(done: int, total: int) -> None:
        told(content.size * done // max(total, 1), content.size)

    file = content.spooled()
    try:
        return columnar.read_columns(file, folders, planner, rows_told)
    finally:
        if content.packed:
            file.close()


def _read_text(
    file: IO[bytes], content: Content, planner: Planner, told: Callable[[int, int], None]
) -> Part:
    def progress() -> None:
        told(content.done, content.size)

    text = Text(content)
    start = text.peek().lstrip()
    if not start:
        raise DataError("the file is empty: expected a header and rows.")
    if start[:20].lower().startswith(_MARKUP):
        raise DataError("it is a web page or XML: expected a CSV, Parquet or JSON table.")
    if start.startswith((b"{", b"[")):
        part = read_records(text, planner, progress)
    else:
        part = _read_delimited(file, text, planner, progress)
    notices = part.notices
    if text.damaged:
        notices = (*notices, "Some characters are no UTF-8 and were replaced.")
    return replace(part, notes=(*_encoding(text), *part.notes), notices=notices)


def _read_delimited(
    file: IO[bytes], text: Text, planner: Planner, progress: Callable[[], None]
) -> Part:
    header = find_header(text.peek())
    plan = planner(header.names)

    def rows(text: Text) -> Text:
        text.peek()
        text.skip(header.size)
        return text

    def again() -> Text:
        file.seek(0)
        return rows(Text(Content(file, text.name)))

    try:
        part = read_rows(rows(text), header, plan, escape=False, progress=progress)
    except DataError:
        if text.escapes:
            # Spark and databases write \" for a quote.
            with suppress(DataError):
                return read_rows(again(), header, plan, escape=True, progress=progress)
        raise
    if header.quote == '"' and text.may_hide_rows(part.rows):
        lost = lost_rows(again(), header)
        part = replace(part, notices=(*part.notices, *([lost] if lost else [])))
    return part


def _encoding(text: Text) -> tuple[str, ...]:
    if text.encoding == "utf-8":
        return ()
    return ("Windows-1252 (Latin-1)" if text.encoding == "cp1252" else text.encoding.upper(),)
