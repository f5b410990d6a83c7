from __future__ import annotations

import importlib.metadata
import inspect
import pickle
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import bentoml
import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from churn_serving.errors import (
    ModelCorruptedError,
    ModelForeignError,
    ModelMismatchError,
    ModelNotFoundError,
    ModelStoreError,
)
from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.model import artifact
from churn_serving.model.artifact import (
    MODEL_NAME,
    find_model,
    load_artifact,
    save_artifact,
    version_warning,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.package.conftest import Fitted

    StoreFiles = Callable[[], dict[str, bytes]]

FILES = ("saved_model.pkl", "custom_objects.pkl")
COMMAND = "python train_and_save.py"


def _save(fitted: Fitted, name: str) -> str:
    return save_artifact(
        estimator=fitted.estimator, scaler=fitted.scaler, threshold=0.5, measured={}, name=name
    )


def _folder(tag: str) -> Path:
    return Path(bentoml.models.get(tag).path)


def _break_writing(monkeypatch: pytest.MonkeyPatch, dump: Callable[..., None]) -> None:
    """Let the store, but nobody else, write its model with ``dump``."""
    store = sys.modules[bentoml.sklearn.save_model.__module__]
    monkeypatch.setattr(store, "joblib", SimpleNamespace(dump=dump, load=joblib.load))


@pytest.fixture(params=["logistic", "boosting"])
def fitted(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_a_saved_model_comes_back_with_its_scaler_threshold_and_answers(
    fitted: Fitted, model_name: str
) -> None:
    tag = save_artifact(
        estimator=fitted.estimator,
        scaler=fitted.scaler,
        threshold=0.31,
        measured={"seed": 3},
        name=model_name,
    )
    loaded = load_artifact(tag)
    assert loaded.tag == tag
    assert loaded.tag.startswith(f"{model_name}:")
    assert loaded.threshold == 0.31
    assert type(loaded.estimator) is type(fitted.estimator)
    np.testing.assert_array_equal(
        loaded.estimator.predict_proba(loaded.scaler.transform(fitted.X))[:, 1],
        fitted.predict_proba(fitted.X),
    )


def test_any_classifier_of_scikit_learn_can_be_registered(
    logistic: Fitted, model_name: str
) -> None:
    y = np.arange(60) % 2
    forest = RandomForestClassifier(n_estimators=3, random_state=0).fit(logistic.X[:60], y)
    tag = _save(replace(logistic, estimator=forest), model_name)
    assert load_artifact(tag).metadata["estimator"] == "RandomForestClassifier"


def test_both_prediction_methods_are_batchable_along_the_first_axis(saved: str) -> None:
    signatures = bentoml.models.get(saved).info.signatures
    assert set(signatures) == {"predict", "predict_proba"}
    for signature in signatures.values():
        assert signature.batchable is True
        assert signature.batch_dim == (0, 0)


def test_the_scaler_is_a_custom_object_of_the_model(saved: str, logistic: Fitted) -> None:
    scaler = bentoml.models.get(saved).custom_objects["scaler"]
    np.testing.assert_array_equal(scaler.mean_, logistic.scaler.mean_)


def test_the_metadata_name_the_commit_that_trained_it(
    logistic: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "git_commit", lambda: "0123abcd-dirty")
    tag = save_artifact(
        estimator=logistic.estimator, scaler=logistic.scaler, threshold=0.25, measured={}
    )
    assert find_model(tag).metadata["git_commit"] == "0123abcd-dirty"


def test_the_metadata_say_what_the_model_is_and_how_it_was_made(saved: str) -> None:
    metadata = load_artifact(saved).metadata
    assert metadata["task"] == "binary classification: P(customer leaves)"
    assert metadata["framework"] == "scikit-learn"
    assert metadata["estimator"] == "LogisticRegression"
    assert metadata["feature_names"] == list(FEATURE_NAMES)
    assert metadata["column_names"] == list(COLUMN_NAMES)
    assert metadata["decision_threshold"] == 0.25
    assert metadata["held_out"]["auc"]["value"] == 0.84
    assert metadata["seed"] == 42
    assert metadata["python_version"].count(".") == 2
    assert metadata["trained_at"].endswith("+00:00")
    assert set(metadata["library_versions"]) == {
        "bentoml",
        "joblib",
        "numpy",
        "scikit-learn",
        "scipy",
    }
    for library, version in metadata["library_versions"].items():
        assert version == importlib.metadata.version(library)
    for key in ("model_sha256", "scaler_sha256"):
        assert len(metadata[key]) == 64


def test_labels_are_kept_with_the_model(saved: str) -> None:
    assert bentoml.models.get(saved).info.labels == {"team": "retention"}


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
    assert not hasattr(found, "estimator")


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


def test_a_model_without_checksums_is_refused(logistic: Fitted, model_name: str) -> None:
    tag = str(
        bentoml.sklearn.save_model(
            model_name,
            logistic.estimator,
            custom_objects={"scaler": logistic.scaler},
            metadata={"decision_threshold": 0.5},
        ).tag
    )
    with pytest.raises(ModelCorruptedError, match=r"saved_model\.pkl"):
        load_artifact(tag)


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
    logistic: Fitted,
    model_name: str,
) -> None:
    tag = save_artifact(
        estimator=logistic.estimator,
        scaler=logistic.scaler,
        threshold=0.5,
        measured={"column_names": list(columns)},
        name=model_name,
    )
    with pytest.raises(ModelMismatchError) as refused:
        look_up(tag)
    assert str(refused.value) == (
        f"The model '{tag}' was trained with other columns than this code makes: {difference}; "
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


def test_a_save_that_fails_midway_registers_nothing_and_keeps_the_latest(
    saved: str, logistic: Fitted, store_files: StoreFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    name = saved.partition(":")[0]
    before = store_files()
    _break_writing(monkeypatch, no_space)
    with pytest.raises(OSError, match="No space left on device"):
        _save(logistic, name)
    assert store_files() == before
    assert find_model(f"{name}:latest").tag == saved


@pytest.mark.parametrize("fault", [OSError, KeyboardInterrupt])
def test_a_save_that_stops_while_the_files_are_copied_registers_nothing(
    fault: type[BaseException],
    saved: str,
    logistic: Fitted,
    store_files: StoreFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(_: object, target: Path, **__: object) -> None:
        (target / "saved_model.pkl").write_bytes(b"half")
        raise fault

    name = saved.partition(":")[0]
    before = store_files()
    with monkeypatch.context() as broken:
        broken.setattr(shutil, "copytree", stop)
        with pytest.raises(fault):
            _save(logistic, name)
    assert store_files() == before
    assert [str(model.tag) for model in bentoml.models.list(name)] == [saved]
    assert load_artifact(f"{name}:latest").tag == saved


def test_the_first_save_of_a_name_that_stops_leaves_no_model_of_that_name(
    model_name: str, logistic: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: object, target: Path, **__: object) -> None:
        (target / "saved_model.pkl").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(shutil, "copytree", stop)
        with pytest.raises(KeyboardInterrupt):
            _save(logistic, model_name)
    with pytest.raises(ModelNotFoundError):
        find_model(f"{model_name}:latest")


def test_a_file_that_reached_the_disk_damaged_is_not_registered(
    saved: str, logistic: Fitted, store_files: StoreFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def truncated(model: object, path: str) -> None:
        joblib.dump(model, path)
        Path(path).write_bytes(Path(path).read_bytes()[:-1])

    name = saved.partition(":")[0]
    before = store_files()
    _break_writing(monkeypatch, truncated)
    with pytest.raises(ModelCorruptedError, match=r"saved_model\.pkl"):
        _save(logistic, name)
    assert store_files() == before
    assert find_model(f"{name}:latest").tag == saved


def test_there_is_no_warning_about_the_installed_version(saved: str) -> None:
    assert version_warning(load_artifact(saved)) is None


def test_another_version_of_scikit_learn_is_warned_about_in_one_sentence(saved: str) -> None:
    loaded = load_artifact(saved)
    older = {**loaded.metadata["library_versions"], "scikit-learn": "1.2.3"}
    warning = version_warning(
        replace(loaded, metadata={**loaded.metadata, "library_versions": older})
    )
    assert warning == (
        f"Model '{saved}' was trained with scikit-learn 1.2.3 but "
        f"{importlib.metadata.version('scikit-learn')} is installed; "
        f"retrain it with: {COMMAND}"
    )


def test_a_model_of_another_version_loads_without_a_warning_of_scikit_learn(
    logistic: Fitted, model_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr("sklearn.base.__version__", "1.2.3")
        tag = _save(logistic, model_name)
    with pytest.warns(UserWarning, match=r"1\.2\.3"):
        joblib.load(_folder(tag) / "saved_model.pkl")
    assert load_artifact(tag).tag == tag  # warnings are errors here


def test_the_default_name_is_the_one_the_service_looks_for() -> None:
    assert MODEL_NAME == "churn_classifier"
    assert inspect.signature(save_artifact).parameters["name"].default == MODEL_NAME


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
