from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
import joblib
import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from churn_serving.errors import (
    ModelCorruptedError,
    ModelForeignError,
    ModelMismatchError,
    ModelNotFoundError,
    ModelStoreError,
    ModelUntrustedError,
)
from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.learning.registration import save_artifact
from churn_serving.model.artifact import Trust, find_model, load_artifact
from churn_serving.model.signature import generate_key_pair, read_public_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.package.conftest import Fitted

    StoreFiles = Callable[[], dict[str, bytes]]

FILES = ("saved_model.pkl", "custom_objects.pkl", "portable.npz")
COMMAND = "python train_and_save.py"


def _save(fitted: Fitted, name: str) -> str:
    return save_artifact(
        estimator=fitted.pipeline, scaler=fitted.scaler, threshold=0.5, measured={}, name=name
    )


def _folder(tag: str) -> Path:
    return Path(bentoml.models.get(tag).path)


def _change(tag: str, **changes: Any) -> None:
    """Write another manifest for a model."""
    path = _folder(tag) / "portable.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_latest_is_the_model_registered_last(logistic: Fitted, model_name: str) -> None:
    first, second = (_save(logistic, model_name) for _ in range(2))
    assert first != second
    assert find_model(f"{model_name}:latest").tag == second
    assert find_model(model_name).tag == second
    assert find_model(first).tag == first


def test_finding_a_model_tells_its_threshold_and_metadata_without_loading_it(saved: str) -> None:
    found = find_model(saved)
    assert found.tag == saved
    assert found.threshold == 0.25
    assert found.metadata == load_artifact(saved).metadata
    assert not hasattr(found, "scorer")


@pytest.mark.parametrize("look_up", [find_model, load_artifact])
def test_a_missing_model_is_reported_with_the_command_that_makes_one(
    look_up: Callable[[str], object],
) -> None:
    with pytest.raises(ModelNotFoundError) as missing:
        look_up("never-registered:latest")
    assert "'never-registered:latest'" in str(missing.value)
    assert COMMAND in str(missing.value)


def test_a_missing_version_is_not_answered_with_another_one(saved: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no model"):
        load_artifact(f"{saved.partition(':')[0]}:zzzzzzzzzzzzzzzz")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("look_up", [find_model, load_artifact])
def test_a_changed_file_is_refused_by_its_name_with_the_command_that_helps(
    file: str, look_up: Callable[[str], object], saved: str
) -> None:
    path = _folder(saved) / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelCorruptedError) as corrupted:
        look_up(saved)
    assert file in str(corrupted.value)
    assert saved in str(corrupted.value)
    assert COMMAND in str(corrupted.value)


@pytest.mark.parametrize("file", [*FILES, "model.yaml"])
def test_a_missing_file_is_refused_with_the_command_that_helps(file: str, saved: str) -> None:
    (_folder(saved) / file).unlink()
    with pytest.raises(ModelCorruptedError) as corrupted:
        load_artifact(saved)
    assert saved in str(corrupted.value)
    assert COMMAND in str(corrupted.value)


SWAPPED = (*COLUMN_NAMES[:4], COLUMN_NAMES[5], COLUMN_NAMES[4], *COLUMN_NAMES[6:])


@pytest.mark.parametrize(
    ("columns", "difference"),
    [
        (COLUMN_NAMES[1:], f"it does not know '{COLUMN_NAMES[0]}'"),
        (COLUMN_NAMES[:-2], f"it does not know '{COLUMN_NAMES[-2]}', '{COLUMN_NAMES[-1]}'"),
        ((*COLUMN_NAMES, "gender"), "it needs 'gender'"),
        (
            ("gender", "region=north", *COLUMN_NAMES[1:]),
            f"it does not know '{COLUMN_NAMES[0]}' and needs 'gender', 'region=north'",
        ),
        (SWAPPED, f"it has '{COLUMN_NAMES[5]}' where '{COLUMN_NAMES[4]}' is now"),
    ],
)
@pytest.mark.parametrize("look_up", [find_model, load_artifact])
def test_a_model_of_other_columns_is_refused_by_what_is_different(
    *,
    columns: tuple[str, ...],
    difference: str,
    look_up: Callable[[str], object],
    saved: str,
) -> None:
    _change(saved, columns=columns)
    with pytest.raises(ModelMismatchError) as refused:
        look_up(saved)
    assert str(refused.value) == (
        f"The model '{saved}' was trained with other columns than this code makes: {difference}; "
        f"train a new model with: {COMMAND}"
    )


class _Intruder:
    """Writes to a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.write_text, (self._path, "unpickled")


@pytest.mark.parametrize("file", FILES)
def test_a_changed_file_is_refused_before_it_is_unpickled(
    file: str, saved: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps(_Intruder(trace))
    pickle.loads(content)  # noqa: S301 - shows that the intruder would be noticed
    assert trace.exists()
    trace.unlink()
    (_folder(saved) / file).write_bytes(content)
    with pytest.raises(ModelCorruptedError):
        load_artifact(saved)
    assert not trace.exists()


def test_a_model_that_bentoml_saved_by_itself_is_named_for_what_it_is(
    logistic: Fitted,
) -> None:
    saved = bentoml.sklearn.save_model("foreign", logistic.estimator)
    with pytest.raises(ModelForeignError, match=re.escape(str(saved.tag))) as refused:
        find_model("foreign:latest")
    assert "train_and_save.py" in str(refused.value)


@pytest.mark.parametrize("error", [PermissionError, NotADirectoryError])
def test_a_store_that_cannot_be_read_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    def get(_: str) -> bentoml.Model:
        raise error(13, "Permission denied", "/somebody/elses/store")

    monkeypatch.setattr(bentoml.models, "get", get)
    with pytest.raises(ModelStoreError, match=r"/somebody/elses/store.*BENTOML_HOME"):
        find_model("churn_classifier:latest")


def _keys(folder: Path) -> tuple[Path, Path]:
    """Write a new pair of keys; return where."""
    private, public = folder / "private.pem", folder / "public.pem"
    for path, content in zip((private, public), generate_key_pair(), strict=True):
        path.write_bytes(content)
    return private, public


def _signed(fitted: Fitted, name: str, key: Path) -> str:
    return save_artifact(
        estimator=fitted.pipeline, threshold=0.5, measured={}, name=name, sign_key=key
    )


@pytest.mark.parametrize("look_up", [find_model, load_artifact])
def test_a_signed_model_is_served_to_who_has_the_public_key(
    look_up: Callable[[str, Trust], Any], logistic: Fitted, model_name: str, tmp_path: Path
) -> None:
    private, public = _keys(tmp_path)
    tag = _signed(logistic, model_name, private)
    assert look_up(tag, Trust(public_key=read_public_key(public))).tag == tag
    assert look_up(tag, Trust()).tag == tag  # who has no key asks for no signature


def _unsigned(folder: Path) -> None:
    (folder / "portable.json.sig").unlink()


def _another_threshold(folder: Path) -> None:
    path = folder / "portable.json"
    path.write_text(path.read_text().replace('"threshold": 0.5', '"threshold": 0.9'))


def _cut_short(folder: Path) -> None:
    path = folder / "portable.json.sig"
    path.write_bytes(path.read_bytes()[:63])


def _endless(folder: Path) -> None:
    (folder / "portable.json.sig").unlink()
    (folder / "portable.json.sig").symlink_to("/dev/zero")


@pytest.mark.parametrize("spoil", [_unsigned, _another_threshold, _cut_short, _endless])
@pytest.mark.parametrize("look_up", [find_model, load_artifact])
def test_a_model_that_is_not_as_it_was_signed_is_refused(
    *,
    spoil: Callable[[Path], None],
    look_up: Callable[[str, Trust], Any],
    logistic: Fitted,
    model_name: str,
    tmp_path: Path,
) -> None:
    private, public = _keys(tmp_path)
    tag = _signed(logistic, model_name, private)
    spoil(_folder(tag))
    with pytest.raises(ModelUntrustedError, match=re.escape(tag)):
        look_up(tag, Trust(public_key=read_public_key(public)))


def test_a_model_signed_with_another_key_is_refused(
    logistic: Fitted, model_name: str, tmp_path: Path
) -> None:
    private, _ = _keys(tmp_path)
    tag = _signed(logistic, model_name, private)
    _, public = _keys(tmp_path)
    with pytest.raises(ModelUntrustedError, match="another key"):
        find_model(tag, Trust(public_key=read_public_key(public)))


def test_a_signed_model_in_the_place_of_another_is_refused(
    logistic: Fitted, boosting: Fitted, model_name: str, tmp_path: Path
) -> None:
    private, public = _keys(tmp_path)
    wanted, other = (_signed(fitted, model_name, private) for fitted in (logistic, boosting))
    for file in _folder(other).iterdir():
        if file.name != "model.yaml":
            (_folder(wanted) / file.name).write_bytes(file.read_bytes())
    for trust in (Trust(), Trust(public_key=read_public_key(public))):
        with pytest.raises(ModelUntrustedError, match=f"that of another one, '{other}'"):
            find_model(wanted, trust)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {}},
        {"files": {"../model.yaml": {"sha256": "0" * 64, "bytes": 0}}},
        {"files": {"endless": {"sha256": "0" * 64, "bytes": 0}}},
        {"threshold": 2},
        {"threshold": "0.5"},
        {"format": 2},
        {"surprise": 1},
        {"model": {"kind": "members", "members": []}},
        {"columns": "tenure_months"},
    ],
)
def test_an_impossible_manifest_is_one_sentence(changes: dict[str, Any], saved: str) -> None:
    (_folder(saved) / "endless").symlink_to("/dev/zero")
    _change(saved, **changes)
    with pytest.raises(ModelCorruptedError, match=re.escape(saved)) as refused:
        load_artifact(saved)
    assert "\n" not in str(refused.value)
    assert COMMAND in str(refused.value)


def test_a_model_whose_answers_differ_from_its_golden_rows_is_refused(saved: str) -> None:
    manifest = json.loads((_folder(saved) / "portable.json").read_text())
    manifest["model"]["members"][0]["bias"] += 1e-9
    _change(saved, model=manifest["model"])
    with pytest.raises(ModelCorruptedError, match="answers otherwise than its estimator did"):
        load_artifact(saved)


def test_nothing_is_believed_from_bentomls_own_file(saved: str) -> None:
    path = _folder(saved) / "model.yaml"
    path.write_text(path.read_text().replace("decision_threshold: 0.25", "decision_threshold: 1"))
    assert find_model(saved).threshold == 0.25
    assert find_model(saved).metadata["decision_threshold"] == 0.25


def test_a_model_of_version_0_1_is_named_with_the_command_that_converts_it(
    logistic: Fitted, model_name: str
) -> None:
    tag = bentoml.sklearn.save_model(
        model_name,
        logistic.estimator,
        custom_objects={"scaler": logistic.scaler},
        metadata={"decision_threshold": 0.5, "model_sha256": "0" * 64},
    ).tag
    with pytest.raises(ModelForeignError, match=f"churn model convert {tag}"):
        find_model(str(tag))


def test_the_whole_folder_of_another_signed_model_in_the_place_of_one_is_refused(
    logistic: Fitted, model_name: str, tmp_path: Path
) -> None:
    private, public = _keys(tmp_path)
    old, wanted = (_signed(logistic, model_name, private) for _ in range(2))
    _exchange(_folder(old), _folder(wanted))
    for trust in (Trust(), Trust(public_key=read_public_key(public))):
        with pytest.raises(ModelUntrustedError, match=f"'{wanted}'.*another one, '{old}'"):
            find_model(wanted, trust)


def test_a_signed_model_of_another_name_is_not_served_for_the_latest(
    logistic: Fitted, model_name: str, tmp_path: Path
) -> None:
    private, _ = _keys(tmp_path)
    other, wanted = (_signed(logistic, name, private) for name in ("other", model_name))
    _exchange(_folder(other), _folder(wanted))
    with pytest.raises(ModelUntrustedError, match=f"another one, '{other}'"):
        find_model(f"{model_name}:latest")


def _exchange(source: Path, target: Path) -> None:
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


@pytest.mark.parametrize(
    "content", [b"{}", b"[" * 4000, b"name: \xff\n", b"a: \x00", b"name: a\nversion: b\n"]
)
def test_whatever_bentomls_file_holds_is_one_sentence(content: bytes, saved: str) -> None:
    (_folder(saved) / "model.yaml").write_bytes(content)
    with pytest.raises(ModelCorruptedError, match=COMMAND) as refused:
        find_model(saved)
    assert "\n" not in str(refused.value)


def _no_file(path: Path) -> None:
    path.unlink()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("spoil", [_no_file, _pipe, _loop])
def test_a_manifest_that_is_gone_does_not_make_a_model_of_version_0_1(
    spoil: Callable[[Path], None], saved: str
) -> None:
    spoil(_folder(saved) / "portable.json")
    with pytest.raises(ModelCorruptedError, match=r"portable\.json is gone"):
        find_model(saved)


@pytest.mark.parametrize("file", ["portable.json", "portable.npz"])
def test_a_file_that_became_a_pipe_after_a_look_at_it_is_not_waited_for(
    file: str, saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pipe(_folder(saved) / file)
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    with pytest.raises(ModelCorruptedError):
        find_model(saved)


@pytest.mark.parametrize("file", ["portable.json", "portable.npz", "portable.json.sig"])
def test_a_file_that_this_user_may_not_read_is_one_sentence(
    file: str, logistic: Fitted, model_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = _keys(tmp_path)
    tag = _signed(logistic, model_name, private)
    refused = _folder(tag) / file
    usual = os.open

    def opened(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(ModelStoreError, match=re.escape(str(refused))):
        find_model(tag, Trust(public_key=read_public_key(public)))


@pytest.mark.parametrize(
    "changes", [{"library_versions": [1]}, {"library_versions": None}, {"estimator": {"a": 1}}]
)
def test_metadata_that_cannot_be_shown_is_one_sentence(changes: dict[str, Any], saved: str) -> None:
    metadata = json.loads((_folder(saved) / "portable.json").read_text())["metadata"]
    _change(saved, metadata=metadata | changes)
    with pytest.raises(ModelCorruptedError, match="says nothing sensible at 'metadata'"):
        find_model(saved)


def test_a_pickle_that_cannot_be_read_here_is_one_sentence(
    model_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = DummyClassifier(strategy="prior").fit(np.zeros((2, len(COLUMN_NAMES))), [0, 1])
    tag = save_artifact(
        estimator=fitted, threshold=0.5, measured={}, name=model_name, allow_pickle=True
    )

    def load(_: Any) -> Any:
        raise ModuleNotFoundError("No module named 'theirs'", name="theirs")

    monkeypatch.setattr(joblib, "load", load)
    with pytest.raises(ModelCorruptedError, match=r"cannot be read.*'theirs'"):
        load_artifact(tag, Trust(allow_pickle=True))
