"""Whatever bytes a file holds: it is read, or refused in one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from churn_serving.errors import DataError
from churn_serving.learning.dataset import _public_file, load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from churn_serving.features.columns import FloatArray

ROWS = 30
relaxed = settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@cache
def _table() -> pd.DataFrame:
    table = pd.read_csv(_public_file(), dtype=str, keep_default_na=False).head(ROWS)
    return table.assign(note='é "quoted", note')


@cache
def _csv() -> bytes:
    return _table().to_csv(index=False).encode()


def _parquet() -> bytes:
    target = io.BytesIO()
    _table().to_parquet(target)
    return target.getvalue()


def _zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("table.csv", _csv())
    return target.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "csv": _csv,
    "utf-16": lambda: _csv().decode().encode("utf-16"),
    "jsonl": lambda: _table().to_json(orient="records", lines=True).encode(),
    "json": lambda: _table().to_json(orient="records").encode(),
    "parquet": _parquet,
    "gz": lambda: gzip.compress(_csv()),
    "bz2": lambda: bz2.compress(_csv()),
    "xz": lambda: lzma.compress(_csv()),
    "zip": _zip,
}


@cache
def good(kind: str) -> bytes:
    """Return a good file."""
    return KINDS[kind]()


@cache
def _features(folder: Path) -> FloatArray:
    """Return what the good table holds."""
    assert read_or_refused(_csv(), folder) == ROWS
    return load_dataset(folder / "table").X


def read_or_refused(content: bytes, folder: Path) -> int | None:
    """Return how many rows were read, or None; any other error fails the test."""
    path = folder / "table"
    path.write_bytes(content)
    try:
        dataset = load_dataset(path)
    except DataError as error:
        message = str(error)
        assert message.isprintable(), message
        assert len(message) < 3000
        assert message.endswith((".", "?"))
        return None
    assert np.isfinite(dataset.X).all()
    assert dataset.groups is not None
    assert len(dataset.X) == len(dataset.y) == len(dataset.groups)
    return dataset.rows


@given(content=st.binary(max_size=400))
@relaxed
def test_any_bytes(content: bytes, tmp_path: Path) -> None:
    read_or_refused(content, tmp_path)


@given(content=st.text(alphabet=",;\t|\"'\r\n\\ =a1.{}[]:\0é", max_size=300))
@relaxed
def test_any_text_like_a_table(content: str, tmp_path: Path) -> None:
    read_or_refused(content.encode(), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@relaxed
def test_a_good_file_that_was_damaged(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(good(kind))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(content) - 1, 0)))
        # A Parquet file's description stands at its end.
        place = max(len(content) - 1 - place, 0) if data.draw(st.booleans()) else place
        how = data.draw(st.sampled_from(["change", "insert", "remove", "cut", "repeat"]))
        if how == "change":
            content[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
        elif how == "insert":
            content[place:place] = data.draw(st.sampled_from([b'"', b",", b"\n", b"\0", b"\xff"]))
        elif how == "remove":
            del content[place : place + data.draw(st.integers(1, 40))]
        elif how == "cut":
            del content[place:]
        else:
            content[place:place] = content[place : place + 200]
    read_or_refused(bytes(content), tmp_path)


@given(
    row=st.integers(1, ROWS),
    place=st.integers(0, 60),
    what=st.sampled_from([",", ",,", ",x", '"x"', " ", ""]),
)
@relaxed
def test_a_further_separator_is_never_a_silent_shift(
    row: int, place: int, what: str, tmp_path: Path
) -> None:
    """A row that was spoiled anywhere is refused, or every other cell still means the same."""
    expected = _features(tmp_path)
    lines = _csv().decode().splitlines()
    lines[row] = lines[row][:place] + what + lines[row][place:]
    rows = read_or_refused("\n".join(lines).encode(), tmp_path)
    if "," in what:
        assert rows is None
    elif rows is not None:
        read = load_dataset(tmp_path / "table").X
        assert rows == ROWS
        others = np.arange(ROWS) != row - 1
        np.testing.assert_array_equal(read[others], expected[others])
