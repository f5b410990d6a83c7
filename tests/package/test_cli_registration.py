"""A model of the user's own is registered, or refused in one sentence."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import joblib
import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from churn_serving import cli
from churn_serving.learning.training import measure
from churn_serving.model.artifact import Trust, find_model, load_artifact
from churn_serving.model.signature import generate_key_pair, read_public_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from churn_serving.learning.dataset import Dataset
    from tests.package.conftest import Fitted

pytestmark = pytest.mark.usefixtures("few_bootstrap_samples")


@pytest.fixture
def table(raw: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    raw.to_csv(path, index=False)
    return path


@pytest.fixture
def forest(small: Dataset) -> RandomForestClassifier:
    return RandomForestClassifier(20, max_depth=5, random_state=0).fit(small.X, small.y)


@pytest.fixture
def register(model_name: str) -> Callable[..., int]:
    """Run the command for a name that no other test uses."""

    def run(path: Path, *arguments: object) -> int:
        options = ["--name", model_name, *map(str, arguments)]
        return cli.main(["model", "register", str(path), *options])

    return run


@pytest.mark.parametrize("protocol", ["joblib", "compressed", "pickle"])
def test_an_estimator_is_registered_with_its_own_probabilities(
    *,
    protocol: str,
    small: Dataset,
    forest: RandomForestClassifier,
    register: Callable[..., int],
    model_name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "forest.joblib"
    if protocol == "pickle":
        path.write_bytes(pickle.dumps(forest))
    else:
        joblib.dump(forest, path, compress=3 if protocol == "compressed" else 0)
    assert register(path, "--threshold", 0.4, "--label", "team=x") == 0
    artifact = load_artifact(f"{model_name}:latest")
    assert artifact.threshold == 0.4
    assert artifact.manifest.labels == {"team": "x"}
    assert artifact.metadata["registered_from"] == "forest.joblib"
    expected = forest.predict_proba(small.X)[:, 1]
    assert np.abs(artifact.scorer.score(small.X) - expected).max() < 1e-9
    captured = capsys.readouterr()
    assert f"Registered {artifact.tag}." in captured.out
    assert f"make serve CHURN_MODEL_TAG={artifact.tag}" in captured.out
    assert "loading forest.joblib runs code in it" in captured.err


def test_without_a_table_the_threshold_is_a_half_and_that_is_said(
    logistic: Fitted,
    register: Callable[..., int],
    model_name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    joblib.dump(logistic.pipeline, tmp_path / "a.joblib")
    assert register(tmp_path / "a.joblib") == 0
    assert find_model(f"{model_name}:latest").threshold == 0.5
    assert "because nothing was measured" in capsys.readouterr().err


def test_a_table_measures_the_model_and_chooses_the_threshold(
    *,
    logistic: Fitted,
    small: Dataset,
    table: Path,
    register: Callable[..., int],
    model_name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    joblib.dump(logistic.pipeline, tmp_path / "a.joblib")
    assert register(tmp_path / "a.joblib", "--data", table) == 0
    model = find_model(f"{model_name}:latest")
    probabilities = logistic.predict_proba(small.X)
    scores = [f1_score(small.y, probabilities >= threshold) for threshold in probabilities]
    assert f1_score(small.y, probabilities >= model.threshold) == pytest.approx(max(scores))
    assert set(model.metadata["measured"]) >= {"auc", "log_loss", "brier", "f1"}
    assert set(model.metadata["profit"]["per_customer"]) == {"value", "low", "high"}
    assert model.metadata["data"]["rows"] == small.rows
    assert "held_out" not in model.metadata
    captured = capsys.readouterr()
    assert "400 customers, 25.5% left: customers.csv" in captured.out
    assert "these figures flatter it" in captured.err


def test_a_threshold_that_was_asked_for_is_kept_beside_a_table(
    logistic: Fitted, table: Path, register: Callable[..., int], model_name: str, tmp_path: Path
) -> None:
    joblib.dump(logistic.pipeline, tmp_path / "a.joblib")
    assert register(tmp_path / "a.joblib", "--data", table, "--threshold", 0) == 0
    assert find_model(f"{model_name}:latest").threshold == 0


def test_a_key_signs_what_is_registered(
    logistic: Fitted, register: Callable[..., int], model_name: str, tmp_path: Path
) -> None:
    private_pem, public_pem = generate_key_pair()
    (tmp_path / "key").write_bytes(private_pem)
    (tmp_path / "pub").write_bytes(public_pem)
    joblib.dump(logistic.pipeline, tmp_path / "a.joblib")
    assert register(tmp_path / "a.joblib", "--sign-key", tmp_path / "key") == 0
    trust = Trust(public_key=read_public_key(tmp_path / "pub"))
    assert load_artifact(f"{model_name}:latest", trust).tag.startswith(model_name)


@pytest.mark.parametrize("suffix", ["json", "ubj", "txt"])
def test_a_booster_is_registered_from_its_own_file(
    *,
    suffix: str,
    small: Dataset,
    table: Path,
    register: Callable[..., int],
    model_name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / f"booster.{suffix}"
    booster: Any
    data: Any
    if suffix == "txt":
        data = lightgbm.Dataset(small.X, small.y)
        parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 5}
        booster = lightgbm.train(parameters, data, 10)
        expected = np.asarray(booster.predict(small.X))
    else:
        data = xgboost.DMatrix(small.X, small.y)
        parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}
        booster = xgboost.train(parameters, data, 10)
        expected = booster.predict(data)
    booster.save_model(path)
    assert register(path, "--data", table) == 0
    artifact = load_artifact(f"{model_name}:latest")
    assert np.abs(artifact.scorer.score(small.X) - expected).max() < 5e-7
    assert artifact.metadata["measured"]["auc"]["value"] > 0.8
    assert "runs code" not in capsys.readouterr().err


def _voting(small: Dataset) -> object:
    return VotingClassifier([("a", LogisticRegression(max_iter=5000))], voting="soft").fit(
        small.X, small.y
    )


def test_an_estimator_that_cannot_be_compiled_is_registered_only_if_that_is_allowed(
    *,
    small: Dataset,
    table: Path,
    register: Callable[..., int],
    model_name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "voting.joblib"
    joblib.dump(_voting(small), path)
    assert register(path, "--data", table) == 1
    captured = capsys.readouterr()
    assert "VotingClassifier is not taken; taken are" in captured.err
    assert captured.out == ""  # nothing was measured for nothing
    assert register(path, "--data", table, "--allow-pickle") == 0
    assert find_model(f"{model_name}:latest", Trust(allow_pickle=True)).is_pickled
    capsys.readouterr()
    score = ["score", str(table), "--output", str(tmp_path / "scores"), "--model", model_name]
    assert cli.main(score) == 1
    told = capsys.readouterr().err
    assert "name another one with --model" in told
    assert "CHURN_ALLOW_PICKLE" not in told  # it would not help


class _Explosive:
    """Unpickling it fails with an error of its own."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("not a number",))


class _Foreign:
    """Unpickling it needs a module that is not there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (__import__, ("somebodys_module",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a joblib or pickle file of an estimator (EOFError)"),
        (b"tenure,churn\n1,0\n", "is not a joblib or pickle file of an estimator ("),
        (b"customerID,gender\n1,0\n", "is not a joblib or pickle file of an estimator ("),
        (bytes(range(256)), "is not a joblib or pickle file of an estimator ("),
        (pickle.dumps(_Explosive()), "invalid literal for int()"),
        (pickle.dumps(_Foreign()), "needs the module somebodys_module, which is not installed"),
        (pickle.dumps({"model": 1}), "dict gives no probabilities; taken are"),
        (pickle.dumps(LogisticRegression()), "LogisticRegression is not fitted; taken are"),
    ],
    ids=["empty", "table", "Telco table", "bytes", "error", "module", "dict", "unfitted"],
)
def test_a_file_that_holds_no_model_is_refused_in_one_sentence(
    *,
    content: bytes,
    reason: str,
    register: Callable[..., int],
    store_files: Callable[[], dict[str, bytes]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.joblib").write_bytes(content)
    before = store_files()
    assert register(tmp_path / "a.joblib") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert reason in error
    assert store_files() == before


@pytest.mark.parametrize("name", ["none.joblib", "none.json", "."])
def test_a_file_that_is_not_there_is_refused_in_one_sentence(
    name: str, register: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register(tmp_path / name) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--data", "none: No such file or directory"),
        ("--sign-key", "Expected an Ed25519 private key"),
        ("--preprocess", "--preprocess is for model files of XGBoost and LightGBM"),
    ],
)
def test_a_wrong_option_registers_nothing(
    *,
    option: str,
    reason: str,
    logistic: Fitted,
    register: Callable[..., int],
    store_files: Callable[[], dict[str, bytes]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    joblib.dump(logistic.pipeline, tmp_path / "a.joblib")
    before = store_files()
    assert register(tmp_path / "a.joblib", option, tmp_path / "none") == 1
    assert reason in capsys.readouterr().err.splitlines()[-1]
    assert store_files() == before


def test_a_pickle_of_another_scikit_learn_gets_one_remark(
    logistic: Fitted,
    register: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.base.__version__", "1.6.1")
        joblib.dump(logistic.pipeline, tmp_path / "a.joblib")
    assert register(tmp_path / "a.joblib") == 0
    assert capsys.readouterr().err.count("scikit-learn 1.6.1 has written the file") == 1


def test_customers_who_come_ten_times_are_measured_as_once(
    telco: Dataset, logistic: Fitted
) -> None:
    once = telco.take(np.arange(300))
    ten_times = telco.take(np.tile(np.arange(300), 10))
    found = [measure(each, logistic.predict_proba(each.X))[1]["auc"] for each in (once, ten_times)]
    assert found[0].value == pytest.approx(found[1].value)
    # As wide as that of 300 customers, not a third of it, as 3,000 would have.
    widths = [estimate.high - estimate.low for estimate in found]
    assert widths[1] == pytest.approx(widths[0], rel=0.2)
