"""Models of version 0.1 are made portable, and stay as they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
import cloudpickle
import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from churn_serving import cli
from churn_serving.errors import ModelForeignError
from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.model.artifact import Trust, find_model, load_artifact
from churn_serving.model.signature import generate_key_pair, read_public_key

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from tests.package.conftest import Fitted

    StoreFiles = Callable[[], dict[str, bytes]]

pytestmark = pytest.mark.usefixtures("few_bootstrap_samples")

FIGURES = {
    "seed": 42,
    "trained_at": "2026-11-01T00:00:00+00:00",
    "git_commit": "cbe482b",
    "held_out": {"auc": {"value": 0.84, "low": 0.82, "high": 0.86}},
}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _save_as_version_0_1(fitted: Fitted, name: str, tmp_path: Path, **changes: Any) -> str:
    """Save a model as version 0.1 did (commit cbe482b)."""
    joblib.dump(fitted.estimator, tmp_path / "estimator")
    metadata = {
        "task": "binary classification: P(customer leaves)",
        "framework": "scikit-learn",
        "estimator": type(fitted.estimator).__name__,
        "column_names": list(COLUMN_NAMES),
        "decision_threshold": 0.3,
        **FIGURES,
        "model_sha256": _sha256((tmp_path / "estimator").read_bytes()),
        "scaler_sha256": _sha256(cloudpickle.dumps({"scaler": fitted.scaler})),
        **changes,
    }
    signature = {"batchable": True, "batch_dim": 0}
    model = bentoml.sklearn.save_model(
        name,
        fitted.estimator,
        signatures={"predict": signature, "predict_proba": signature},
        labels={"team": "retention"},
        custom_objects={"scaler": fitted.scaler},
        metadata=metadata,
    )
    return str(model.tag)


@pytest.fixture(params=["logistic", "boosting"])
def fitted(request: pytest.FixtureRequest) -> Fitted:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def old(logistic: Fitted, model_name: str, tmp_path: Path) -> str:
    """The tag of a model that version 0.1 has registered."""
    return _save_as_version_0_1(logistic, model_name, tmp_path)


def _convert(*arguments: object) -> int:
    return cli.main(["model", "convert", *map(str, arguments)])


def test_a_converted_model_gives_the_probabilities_of_the_old_one(
    fitted: Fitted,
    model_name: str,
    tmp_path: Path,
    store_files: StoreFiles,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = _save_as_version_0_1(fitted, model_name, tmp_path)
    with pytest.raises(ModelForeignError, match=f"churn model convert {old}"):
        find_model(old)
    before = {name: content for name, content in store_files().items() if "latest" not in name}
    assert _convert(old) == 0
    after = store_files()
    assert {name: after[name] for name in before} == before
    artifact = load_artifact(f"{model_name}:latest")
    assert artifact.tag != old
    assert artifact.threshold == 0.3
    assert artifact.manifest.labels == {"team": "retention"}
    difference = np.abs(artifact.scorer.score(fitted.X) - fitted.predict_proba(fitted.X)).max()
    assert difference < 1e-9
    captured = capsys.readouterr()
    assert f"Converted {old}, which stays as it is." in captured.out
    assert f"Registered {artifact.tag}." in captured.out
    assert "runs code in its pickle" in captured.err


def test_figures_and_origin_are_taken_over_and_the_old_checksums_are_not(old: str) -> None:
    assert _convert(old) == 0
    model = find_model(f"{old.partition(':')[0]}:latest")
    metadata = model.metadata
    assert {name: metadata[name] for name in FIGURES} == FIGURES
    assert metadata["converted_from"] == old
    assert metadata["model_sha256"] == _sha256((model.folder / "saved_model.pkl").read_bytes())


def test_a_notebook_gets_the_whole_pipeline_of_a_converted_model(
    old: str, logistic: Fitted
) -> None:
    assert _convert(old) == 0
    model = bentoml.models.get(f"{old.partition(':')[0]}:latest")
    loaded = bentoml.sklearn.load_model(model)
    assert (loaded.predict_proba(logistic.X)[:, 1] == logistic.predict_proba(logistic.X)).all()
    assert type(model.custom_objects["scaler"]) is type(logistic.scaler)


def test_a_table_adds_figures_of_its_own(old: str, raw: pd.DataFrame, tmp_path: Path) -> None:
    raw.to_csv(tmp_path / "customers.csv", index=False)
    assert _convert(old, "--data", tmp_path / "customers.csv") == 0
    model = find_model(f"{old.partition(':')[0]}:latest")
    assert model.threshold == 0.3
    assert model.metadata["held_out"] == FIGURES["held_out"]
    assert {"auc", "log_loss", "brier", "f1", "data"} <= set(model.metadata["measured"])
    assert model.metadata["measured"]["data"]["rows"] == 400


def test_a_key_signs_the_converted_model(old: str, tmp_path: Path) -> None:
    private_pem, public_pem = generate_key_pair()
    (tmp_path / "key").write_bytes(private_pem)
    (tmp_path / "pub").write_bytes(public_pem)
    assert _convert(old, "--sign-key", tmp_path / "key") == 0
    trust = Trust(public_key=read_public_key(tmp_path / "pub"))
    assert find_model(f"{old.partition(':')[0]}:latest", trust).tag != old


def test_an_older_model_that_becomes_the_latest_is_remarked_upon(
    old: str, logistic: Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _save_as_version_0_1(logistic, old.partition(":")[0], tmp_path)
    assert _convert(old) == 0
    assert "though it is an older model" in capsys.readouterr().err


def test_a_portable_model_has_nothing_to_convert(
    saved: str, store_files: StoreFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    before = store_files()
    assert _convert(saved) == 0
    assert "there is nothing to convert" in capsys.readouterr().out
    assert store_files() == before


def _refused(capsys: pytest.CaptureFixture[str], tag: str, store_files: StoreFiles) -> str:
    before = store_files()
    assert _convert(tag) == 1
    assert store_files() == before
    error = capsys.readouterr().err
    assert "runs code" not in error  # nothing was unpickled
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("file", ["saved_model.pkl", "custom_objects.pkl"])
@pytest.mark.parametrize("spoil", ["altered", "missing"])
def test_a_damaged_file_is_refused_before_anything_is_unpickled(
    *,
    file: str,
    spoil: str,
    old: str,
    store_files: StoreFiles,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = Path(bentoml.models.get(old).path, file)
    if spoil == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b".")
    assert f"The file {file}" in _refused(capsys, old, store_files)


def test_a_model_of_somebody_else_is_refused(
    model_name: str, store_files: StoreFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bentoml.sklearn.save_model(model_name, LogisticRegression())
    error = _refused(capsys, str(model.tag), store_files)
    assert "was not registered by version 0.1" in error


def test_a_model_of_other_columns_is_refused(
    logistic: Fitted,
    model_name: str,
    tmp_path: Path,
    store_files: StoreFiles,
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = [COLUMN_NAMES[1], COLUMN_NAMES[0], *COLUMN_NAMES[2:]]
    tag = _save_as_version_0_1(logistic, model_name, tmp_path, column_names=columns)
    assert "other columns" in _refused(capsys, tag, store_files)


@pytest.mark.parametrize("content", ["", "[]", "metadata: 1", "a: [", "{}"])
def test_a_model_yaml_that_says_nothing_is_refused(
    content: str, old: str, store_files: StoreFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(bentoml.models.get(old).path, "model.yaml").write_text(content)
    assert "is not as it was registered" in _refused(capsys, old, store_files)


@pytest.mark.parametrize("version", ["none", "latest"])
def test_a_model_that_is_not_there_is_refused(
    version: str, store_files: StoreFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no model 'nobody:" in _refused(capsys, f"nobody:{version}", store_files)


def test_the_fixture_is_what_version_0_1_wrote(old: str) -> None:
    folder = Path(bentoml.models.get(old).path)
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.yaml", "saved_model.pkl", "custom_objects.pkl"}
    metadata = bentoml.models.get(old).info.metadata
    for file, key in {
        "saved_model.pkl": "model_sha256",
        "custom_objects.pkl": "scaler_sha256",
    }.items():
        assert _sha256((folder / file).read_bytes()) == metadata[key]
    assert json.dumps(dict(metadata))
