"""What the store holds, and whether it can be served."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
import pytest
from sklearn.linear_model import LogisticRegression

from churn_serving import cli
from churn_serving.cli.keys import make_keys
from churn_serving.learning.registration import save_artifact
from churn_serving.model.portable import ARRAYS
from churn_serving.model.signature import fingerprint, read_public_key

if TYPE_CHECKING:
    from tests.package.conftest import Fitted


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(["model", *arguments]) == 0
    return capsys.readouterr().out


def _failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(["model", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def _listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(_said(capsys, "list", *arguments, "--json"))
    return listed


@pytest.fixture
def public_key(tmp_path: Path) -> str:
    make_keys(str(tmp_path), force=False)
    return str(tmp_path / "churn-model.pub.pem")


@pytest.fixture
def signed(saved: str, public_key: str) -> str:
    """A tag of a model that is signed with the key."""
    key = public_key.replace("pub", "key")
    assert cli.main(["model", "sign", saved, "--key", key]) == 0
    return saved


def test_a_model_is_listed_with_what_it_is(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _said(capsys, "list", saved.partition(":")[0]).splitlines()
    assert lines[1].split() == ["*", saved, "LogisticRegression", "0.250", "unsigned"]
    (model,) = _listed(capsys, saved.partition(":")[0])
    assert model["tag"] == saved
    assert model["latest"] is True
    assert (model["kind"], model["state"], model["signature"]) == ("linear", "portable", "none")


def test_a_signature_is_listed_as_valid_only_if_it_was_checked(
    signed: str, public_key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = signed.partition(":")[0]
    assert _said(capsys, "list", name).splitlines()[1].endswith("signed   ".rstrip())
    assert _listed(capsys, name)[0]["signature"] == "unchecked"
    assert _listed(capsys, name, "--public-key", public_key)[0]["signature"] == "valid"


def test_the_key_of_serving_is_the_key_of_the_command(
    saved: str, public_key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHURN_MODEL_PUBLIC_KEY_FILE", public_key)
    assert _listed(capsys, saved.partition(":")[0])[0]["state"] == "not trusted"
    assert "is not signed" in _failed(capsys, "verify", saved)


def test_a_damaged_model_is_listed_beside_the_others(
    saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = saved.partition(":")[0]
    Path(bentoml.models.get(saved).path, ARRAYS).write_bytes(b"")
    Path(os.environ["BENTOML_HOME"], "models", name, "empty").mkdir()
    states = {model["tag"]: model["state"] for model in _listed(capsys, name)}
    assert states[saved] == "damaged"
    assert states[f"{name}:empty"] == "damaged"
    assert "portable.npz is not the one" in _listed(capsys, name)[0]["reason"]


def test_a_model_of_somebody_else_is_listed_as_not_portable(
    model_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bentoml.sklearn.save_model(model_name, LogisticRegression())
    assert [model["state"] for model in _listed(capsys, model_name)] == ["not portable"]


def test_a_store_without_such_a_model_says_how_to_train_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "no model of the name nobody" in _said(capsys, "list", "nobody")
    assert _listed(capsys, "nobody") == []


def test_the_models_are_listed_where_there_is_no_store_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "none"))
    assert "The model store has no model;" in _said(capsys, "list")


def test_show_tells_figures_labels_and_where_the_model_came_from(
    signed: str, public_key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _said(capsys, "show", signed, "--public-key", public_key)
    assert signed in said
    assert "0.8400  95%: 0.8200 to 0.8600" in said
    assert "team retention" in said
    assert "scikit-learn " in said
    assert fingerprint(read_public_key(Path(public_key))) in said


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (
            {
                "per_customer": {"value": 10.18, "low": 8.8, "high": 11.5},
                "policy_version": "b3b10f628f887db7",
            },
            "10.1800  95%: 8.8000 to 11.5000",
        ),
        ({"per_customer": {"value": "much"}}, None),
        ({"per_customer": 10}, None),
        ("much", None),
    ],
)
def test_show_tells_the_profit_if_it_is_kept_as_we_keep_it(
    kept: object,
    said: str | None,
    logistic: Fitted,
    model_name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tag = save_artifact(
        estimator=logistic.pipeline, threshold=0.3, measured={"profit": kept}, name=model_name
    )
    shown = _said(capsys, "show", tag)
    assert ("profit" in shown) is (said is not None)
    if said is not None:
        assert said in shown
        assert "by the policy b3b10f628f887db7 (an estimate)" in shown


def test_show_gives_programs_the_whole_manifest(
    saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = json.loads(_said(capsys, "show", saved, "--json"))
    assert shown["tag"] == saved
    assert shown["threshold"] == 0.25
    assert shown["metadata"]["held_out"]["auc"]["value"] == 0.84
    assert len(shown["sha256"]) == 64
    assert "signed_by" not in shown


def test_verify_says_what_was_checked(
    signed: str, public_key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _said(capsys, "verify", signed)
    assert f"{signed} can be served." in said
    assert "pass --public-key to check it" in said
    assert "256, each with the estimator's own probability" in said
    said = _said(capsys, "verify", signed, "--public-key", public_key)
    assert fingerprint(read_public_key(Path(public_key))) in said


def test_verify_fails_for_what_serving_would_refuse(
    signed: str, public_key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(bentoml.models.get(signed).path, ARRAYS)
    path.write_bytes(path.read_bytes() + b"\0")
    error = _failed(capsys, "verify", signed, "--public-key", public_key)
    assert error.startswith(f"error: The model '{signed}' cannot be served")


@pytest.mark.parametrize("command", ["show", "verify", "list"])
def test_a_key_file_that_is_none_is_one_sentence(
    command: str, saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("nonsense")
    tag = saved.partition(":")[0] if command == "list" else saved
    error = _failed(capsys, command, tag, "--public-key", str(tmp_path / "key"))
    assert "Expected an Ed25519 public key" in error


def test_the_model_of_the_environment_is_shown_unless_another_is_named(
    saved: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHURN_MODEL_TAG", saved)
    assert saved in _said(capsys, "show")
    assert "no model 'nobody:x'" in _failed(capsys, "show", "nobody:x")
