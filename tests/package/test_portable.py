"""Portable files of strangers: served as what they are, or refused in one sentence, at once."""

from __future__ import annotations

import io
import json
import resource
import shutil
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import bentoml
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from churn_serving.errors import ModelError
from churn_serving.learning.registration import save_artifact
from churn_serving.model.artifact import Trust, load_artifact
from churn_serving.model.npz import read_arrays, write_arrays
from churn_serving.model.portable import ARRAYS, MANIFEST, describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from churn_serving.learning.dataset import Dataset

EXAMPLES: Final = 250
"""Of each of two kinds of mutation and four kinds of model: 2,000 together."""

SECONDS: Final = 1.0
BYTES: Final = 50 * 1024**2

MODELS: Final[dict[str, Any]] = {
    "logistic": LogisticRegression(max_iter=1000),
    "isotonic": CalibratedClassifierCV(LogisticRegression(max_iter=1000), method="isotonic", cv=2),
    "forest": RandomForestClassifier(5, max_leaf_nodes=90, random_state=0),
    "boosting": HistGradientBoostingClassifier(
        max_iter=10, max_leaf_nodes=8, categorical_features=[3], early_stopping=False
    ),
}


@pytest.fixture(scope="module", params=list(MODELS))
def tag(request: pytest.FixtureRequest, telco: Dataset) -> str:
    X, y = telco.X[:1500], telco.y[:1500]
    pipeline = make_pipeline(MODELS[request.param])
    if request.param != "boosting":  # whose categories must stay whole numbers
        pipeline = make_pipeline(StandardScaler(), MODELS[request.param])
    return save_artifact(
        estimator=pipeline.fit(X, y),
        threshold=0.5,
        measured={},
        name="fuzzed",
        background=X,  # so that what reasons are made of is mutated, too
    )


@pytest.fixture(scope="module")
def folder(tag: str) -> Path:
    return Path(bentoml.models.get(tag).path)


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (MANIFEST, ARRAYS)}


@pytest.fixture(scope="module", autouse=True)
def hypothesis_knows_all_characters() -> None:
    """It makes a table of them at its first text in a fresh clone, which takes 200 MB once."""

    @given(STRANGE)
    @settings(max_examples=1, database=None)
    def draw(_: Any) -> None:
        """Nothing: to draw is all."""

    draw()


@pytest.fixture(autouse=True)
def restored(folder: Path, whole: dict[str, bytes]) -> Any:
    """The files as they were; and the most memory that was ever used has hardly grown."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES
    for name, content in whole.items():
        (folder / name).write_bytes(content)


def _write(folder: Path, manifest: bytes, arrays: bytes) -> None:
    """Write both files, with the checksum that the arrays have now."""
    try:
        read = json.loads(manifest)
        read["files"][ARRAYS] = describe(arrays).model_dump()
        manifest = json.dumps(read).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # no manifest any more: nothing to put right
    (folder / MANIFEST).write_bytes(manifest)
    (folder / ARRAYS).write_bytes(arrays)


def _served_or_refused(tag: str) -> str | None:
    """Load a model; return the sentence if it is refused. Neither takes long."""
    begun = time.process_time()
    try:
        loaded = load_artifact(tag, Trust())
    except ModelError as error:
        sentence = str(error)
        assert "\n" not in sentence
        assert len(sentence) < 1000
        return sentence
    finally:
        assert time.process_time() - begun < SECONDS
    # What is served has passed the golden rows; it answers, whatever else was changed.
    assert 0 <= loaded.scorer.score_row(tuple([1.0] * 13)) <= 1
    return None


def _anywhere(data: st.DataObject, value: Any) -> tuple[Callable[[Any], None], Any]:
    """Choose a place within nested lists and objects; return how to put another value there."""
    places: list[tuple[Any, Any]] = []

    def visit(inside: Any) -> None:
        items = inside.items() if isinstance(inside, dict) else enumerate(inside)
        for key, child in items:
            places.append((inside, key))
            if isinstance(child, dict | list):
                visit(child)

    visit(value)
    inside, key = data.draw(st.sampled_from(places))
    return lambda new: inside.__setitem__(key, new), inside[key]


STRANGE: Final[st.SearchStrategy[Any]] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.just([])
    | st.just({})
    | st.just({"kind": "pickle"})
    | st.just("isotonic")
    | st.just("../../etc/passwd")
)


def _mutated_manifest(data: st.DataObject, content: bytes) -> bytes:
    manifest = json.loads(content)
    for _ in range(data.draw(st.integers(1, 3))):
        put, _ = _anywhere(data, manifest)
        put(data.draw(STRANGE))
    return json.dumps(manifest).encode()


def _cut(data: st.DataObject, content: bytes) -> bytes:
    first = data.draw(st.integers(0, len(content)))
    last = data.draw(st.integers(first, len(content)))
    return content[:first] + data.draw(st.binary(max_size=64)) + content[last:]


def _mutated_array(data: st.DataObject, array: Any) -> Any:
    """Return the array with other numbers, another length, another type or another shape."""
    how = data.draw(st.sampled_from(["number", "number", "number", "length", "type", "shape"]))
    if how == "number" and array.size:
        array = array.copy()
        place = data.draw(st.integers(0, array.size - 1))
        if array.dtype.kind == "f":
            array.flat[place] = data.draw(st.floats())
        elif array.dtype.kind == "b":
            array.flat[place] = not array.flat[place]
        else:
            info = np.iinfo(array.dtype)
            array.flat[place] = data.draw(st.integers(int(info.min), int(info.max)))
        return array
    if how == "length":
        return array[: data.draw(st.integers(0, len(array)))]
    if how == "type":
        return array.astype(data.draw(st.sampled_from(["<f8", "<i4", "<i2", "|b1"])))
    return array.reshape(data.draw(st.sampled_from([(-1, 1), (1, -1), (-1,)])))


def _mutated_arrays(data: st.DataObject, content: bytes) -> bytes:
    arrays = read_arrays(content)
    how = data.draw(st.sampled_from(["array", "array", "array", "missing", "twin", "bytes"]))
    if how == "bytes":
        return _cut(data, content)
    name = data.draw(st.sampled_from(sorted(arrays)))
    if how == "missing":
        del arrays[name]
    elif how == "twin":
        arrays[name] = arrays[data.draw(st.sampled_from(sorted(arrays)))]
    else:
        with np.errstate(invalid="ignore"):
            arrays[name] = _mutated_array(data, arrays[name])
    return write_arrays(arrays)


FUZZ: Final = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@FUZZ
@given(data=st.data())
def test_a_mutated_manifest_is_served_or_refused(
    tag: str, folder: Path, whole: dict[str, bytes], data: st.DataObject
) -> None:
    mutate = data.draw(st.sampled_from([_mutated_manifest, _mutated_manifest, _cut]))
    _write(folder, mutate(data, whole[MANIFEST]), whole[ARRAYS])
    _served_or_refused(tag)


@FUZZ
@given(data=st.data())
def test_mutated_arrays_are_served_or_refused(
    tag: str, folder: Path, whole: dict[str, bytes], data: st.DataObject
) -> None:
    _write(folder, whole[MANIFEST], _mutated_arrays(data, whole[ARRAYS]))
    _served_or_refused(tag)


def _npz(name: str, data: bytes, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def _header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


HUGE: Final = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"
HOSTILE: Final = {
    "a bomb": _npz("0/weights.npy", bytes(10**8), compression=zipfile.ZIP_DEFLATED),
    "a huge array": _npz("0/weights.npy", _header(HUGE)),
    "an overflowing array": _npz("0/weights.npy", _header(HUGE.replace("000,", "0" * 30 + ","))),
    "a negative array": _npz("0/weights.npy", _header(HUGE.replace("(1", "(-1"))),
    "objects": _npz("0/weights.npy", _header(HUGE.replace("<f8", "|O"))),
    "a nested header": _npz("0/weights.npy", _header("(" * 900)),
    "no zip": b"PK" + bytes(1000),
    "nothing": b"",
    "no arrays": _npz("readme.txt", b"hello"),
}


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_a_hostile_archive_is_refused(
    kind: str, tag: str, folder: Path, whole: dict[str, bytes]
) -> None:
    _write(folder, whole[MANIFEST], HOSTILE[kind])
    assert _served_or_refused(tag) is not None


@pytest.mark.parametrize(
    "manifest",
    [b"", b"null", b"[]", b"{}", b"[" * 100_000, b'{"format": 1}', b"\xff\xfe", b'{"a":' * 50_000],
)
def test_a_hostile_manifest_is_refused(
    manifest: bytes, tag: str, folder: Path, whole: dict[str, bytes]
) -> None:
    (folder / MANIFEST).write_bytes(manifest)
    assert _served_or_refused(tag) is not None
    assert whole


def test_a_manifest_without_end_is_refused(tag: str, folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.move(folder / MANIFEST, kept)
    (folder / MANIFEST).symlink_to("/dev/zero")
    try:
        assert _served_or_refused(tag) is not None
    finally:
        (folder / MANIFEST).unlink()
        shutil.move(kept, folder / MANIFEST)


def test_equal_arrays_are_equal_bytes_and_come_back() -> None:
    arrays = {"b": np.arange(3.0), "a": np.array([[True], [False]])}
    content = write_arrays(arrays)
    assert content == write_arrays(dict(reversed(arrays.items())))
    again = read_arrays(content)
    assert set(again) == {"a", "b"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype
