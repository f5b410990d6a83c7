"""What is registered, and that a save that fails registers nothing."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
import joblib
import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.neighbors import KNeighborsClassifier

from churn_serving.errors import (
    ModelCorruptedError,
    ModelNotFoundError,
    ModelPickledError,
    UnsupportedEstimatorError,
)
from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.learning import registration
from churn_serving.learning.registration import save_artifact, save_booster
from churn_serving.model import artifact
from churn_serving.model.artifact import (
    MODEL_NAME,
    Trust,
    find_model,
    load_artifact,
    load_from,
    models_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from churn_serving.learning.dataset import Dataset
    from tests.package.conftest import Fitted

    StoreFiles = Callable[[], dict[str, bytes]]


def _save(fitted: Fitted, name: str) -> str:
    return save_artifact(
        estimator=fitted.pipeline, scaler=fitted.scaler, threshold=0.5, measured={}, name=name
    )


@pytest.fixture(params=["logistic", "boosting"])
def fitted(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_a_saved_model_comes_back_with_its_scaler_threshold_and_answers(
    fitted: Fitted, model_name: str
) -> None:
    tag = save_artifact(
        estimator=fitted.pipeline,
        scaler=fitted.scaler,
        threshold=0.31,
        measured={"seed": 3},
        name=model_name,
    )
    loaded = load_artifact(tag)
    assert loaded.tag == tag
    assert loaded.tag.startswith(f"{model_name}:")
    assert loaded.threshold == 0.31
    np.testing.assert_allclose(
        loaded.scorer.score(fitted.X), fitted.predict_proba(fitted.X), rtol=0, atol=1e-9
    )


def test_bentoml_loads_the_whole_pipeline_in_a_notebook(fitted: Fitted, model_name: str) -> None:
    pipeline = bentoml.sklearn.load_model(_save(fitted, model_name))
    np.testing.assert_array_equal(
        pipeline.predict_proba(fitted.X)[:, 1], fitted.predict_proba(fitted.X)
    )


def test_an_estimator_that_cannot_be_compiled_is_refused_with_what_can(
    logistic: Fitted, model_name: str, store_files: StoreFiles
) -> None:
    neighbours = KNeighborsClassifier().fit(logistic.X[:99], np.arange(99) % 2)
    before = store_files()
    with pytest.raises(UnsupportedEstimatorError, match=r"KNeighbors.*RandomForestClassifier"):
        save_artifact(estimator=neighbours, threshold=0.5, measured={}, name=model_name)
    assert store_files() == before


def test_a_pickled_model_is_served_only_where_that_is_allowed(
    logistic: Fitted, model_name: str
) -> None:
    neighbours = KNeighborsClassifier().fit(logistic.X[:99], np.arange(99) % 2)
    tag = save_artifact(
        estimator=neighbours, threshold=0.5, measured={}, name=model_name, allow_pickle=True
    )
    for look_up in (find_model, load_artifact):
        with pytest.raises(ModelPickledError, match="CHURN_ALLOW_PICKLE=true"):
            look_up(tag)
    loaded = load_artifact(tag, Trust(allow_pickle=True))
    assert loaded.is_pickled
    X = logistic.X[:200]
    np.testing.assert_array_equal(loaded.scorer.score(X), neighbours.predict_proba(X)[:, 1])


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
    monkeypatch.setattr(registration, "git_commit", lambda: "0123abcd-dirty")
    tag = save_artifact(
        estimator=logistic.pipeline, scaler=logistic.scaler, threshold=0.25, measured={}
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


def test_a_save_that_fails_midway_registers_nothing_and_keeps_the_latest(
    saved: str, logistic: Fitted, store_files: StoreFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(folder: Path, _: object) -> None:
        (folder / "saved_model.pkl").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    name = saved.partition(":")[0]
    before = store_files()
    monkeypatch.setattr(registration, "_write", no_space)
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


def test_a_model_that_cannot_become_the_latest_is_not_registered(
    saved: str, logistic: Fitted, store_files: StoreFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    _save(logistic, saved.partition(":")[0])  # the lock's file is there from now on
    before = store_files()
    monkeypatch.setattr(registration, "replace_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        _save(logistic, saved.partition(":")[0])
    assert store_files() == before
    assert not list(models_folder().parent.glob("saving-*"))


def test_a_model_is_in_the_store_only_once_it_was_loaded(
    logistic: Fitted, model_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def look(folder: Path, tag: str, trust: Trust) -> object:
        looked.append(tag)
        assert not (models_folder() / model_name).exists()
        assert folder.stat().st_dev == models_folder().stat().st_dev
        return load_from(folder, tag, trust)

    monkeypatch.setattr(registration, "load_from", look)
    assert looked == [_save(logistic, model_name)]
    assert (models_folder() / model_name / "latest").read_text() == looked[0].partition(":")[2]


def test_what_a_killed_save_has_left_is_removed_after_an_hour(
    logistic: Fitted, model_name: str
) -> None:
    home = models_folder().parent
    old, young = home / "saving-old", home / "saving-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "model.yaml").write_text("half")
    an_hour_ago = time.time() - 3700
    os.utime(old, (an_hour_ago, an_hour_ago))
    try:
        _save(logistic, model_name)
        assert not old.exists()
        assert young.exists()
        assert len(bentoml.models.list(model_name)) == 1
    finally:
        shutil.rmtree(young)


def test_where_the_store_is_a_file_system_of_its_own_a_model_is_built_in_it(
    logistic: Fitted, model_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    real = registration._publish

    def publish(folder: Path, tag: bentoml.Tag) -> None:
        seen.append(folder)
        # BentoML, which takes it for the folder of a name, finds no version in it.
        assert bentoml.models.list(folder.name) == []
        real(folder, tag)

    monkeypatch.setattr(registration, "_same_file_system", lambda *_: False)
    monkeypatch.setattr(registration, "_publish", publish)
    assert load_artifact(_save(logistic, model_name)).tag.startswith(model_name)
    assert [folder.parent for folder in seen] == [models_folder()]
    assert not seen[0].exists()


def test_a_file_that_reached_the_disk_damaged_is_not_registered(
    saved: str, logistic: Fitted, store_files: StoreFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def truncated(folder: Path, files: dict[str, bytes]) -> None:
        for file, content in files.items():
            (folder / file).write_bytes(content[: None if file.endswith("json") else -1])

    name = saved.partition(":")[0]
    before = store_files()
    monkeypatch.setattr(registration, "_write", truncated)
    with pytest.raises(ModelCorruptedError, match=r"saved_model\.pkl"):
        _save(logistic, name)
    assert store_files() == before
    assert find_model(f"{name}:latest").tag == saved


def test_a_model_of_another_version_loads_without_a_warning_of_scikit_learn(
    logistic: Fitted, model_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr("sklearn.base.__version__", "1.2.3")
        tag = _save(logistic, model_name)
    with pytest.warns(UserWarning, match=r"1\.2\.3"):
        joblib.load(Path(bentoml.models.get(tag).path, "saved_model.pkl"))
    assert load_artifact(tag).tag == tag  # warnings are errors here


def test_the_default_name_is_the_one_the_service_looks_for() -> None:
    assert MODEL_NAME == "churn_classifier"
    assert inspect.signature(save_artifact).parameters["name"].default == MODEL_NAME


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_booster_is_registered_from_its_file_and_bentoml_loads_it_again(
    library: str, telco: Dataset, model_name: str, tmp_path: Path
) -> None:
    X, y = telco.X[:1000], telco.y[:1000]
    booster: Any
    if library == "xgboost":
        booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(X, y), 5)
        path = tmp_path / "model.json"
    else:
        parameters = {"objective": "binary", "verbose": -1}
        booster = lightgbm.train(parameters, lightgbm.Dataset(X, y), 5)
        path = tmp_path / "model.txt"
    booster.save_model(path)
    tag = save_booster(path=path, threshold=0.5, measured={}, name=model_name)
    matrix: Any = xgboost.DMatrix if library == "xgboost" else lambda X: X
    expected = booster.predict(matrix(X))
    scored = load_artifact(tag).scorer.score(X)
    np.testing.assert_allclose(scored, expected, rtol=0, atol=5e-7)
    again = getattr(bentoml, library).load_model(tag)
    np.testing.assert_array_equal(again.predict(matrix(X)), expected)
    versions = find_model(tag).metadata["library_versions"]
    assert versions[library] == importlib.import_module(library).__version__


@pytest.mark.parametrize("look_up", [find_model, load_artifact])
def test_a_pickled_model_is_refused_where_scikit_learn_is_not_installed(
    look_up: Callable[[str, Trust], object],
    logistic: Fitted,
    model_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    neighbours = KNeighborsClassifier().fit(logistic.X[:99], np.arange(99) % 2)
    tag = save_artifact(
        estimator=neighbours, threshold=0.5, measured={}, name=model_name, allow_pickle=True
    )
    monkeypatch.setattr(artifact, "find_spec", lambda _: None)
    with pytest.raises(ModelPickledError, match="make image SKLEARN=1"):
        look_up(tag, Trust(allow_pickle=True))
