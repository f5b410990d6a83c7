"""Models are compared on customers whom neither knows, promoted, and rolled back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
import numpy as np
import pytest

from churn_serving import cli
from churn_serving.learning import comparison
from churn_serving.learning.candidates import CANDIDATES, fit
from churn_serving.learning.comparison import FINGERPRINTS, compare
from churn_serving.learning.dataset import _public_file
from churn_serving.learning.measuring.fingerprints import fingerprints
from churn_serving.learning.registration import save_artifact
from churn_serving.model.aliases import ALIASES
from churn_serving.model.artifact import find_model, load_artifact, models_folder
from churn_serving.model.portable import ARRAYS

if TYPE_CHECKING:
    from churn_serving.learning.dataset import Dataset

HALF = slice(3000)


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "SAMPLES", 100)


@pytest.fixture
def names(model_name: str) -> tuple[str, str]:
    return f"{model_name}-a", f"{model_name}-b"


def _register(
    dataset: Dataset, name: str, *, flipped: bool = False, known: bool = True, forced: bool = False
) -> str:
    """Register a model that was trained on these rows; return its tag."""
    y = dataset.y.copy()
    if flipped:
        y[: len(y) // 3] = 1 - y[: len(y) // 3]
    pipeline = fit(CANDIDATES[0], dataset.X, y, 0)
    content = fingerprints(dataset.X, dataset.ids).to_bytes()
    return save_artifact(
        estimator=pipeline,
        threshold=0.5,
        measured={},
        name=name,
        labels={"forced": "skill"} if forced else {},
        attachments={FINGERPRINTS: content} if known else {},
    )


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert cli.main(["model", *map(str, arguments)]) == 0
    return " ".join(capsys.readouterr().out.split())


def _json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_run(capsys, *arguments, "--json"))
    return found


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert cli.main(["model", *map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_better_model_is_told_by_rows_that_neither_was_trained_on(
    telco: Dataset, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    good = _register(telco.take(HALF), names[0])
    bad = _register(telco.take(slice(2000, 4000)), names[1], flipped=True)
    found = _json(capsys, "compare", good, bad, "--data", _public_file())
    assert (found["a"], found["b"]) == (good, bad)
    # Whose row equals that of a customer they know is left out, too.
    assert telco.rows - 4000 - 100 < found["rows"] <= telco.rows - 4000
    assert found["rows"] + found["rows_left_out"] == telco.rows
    assert found["rows_trained_on"]["a"] >= 3000
    assert found["rows_trained_on"]["b"] >= 2000
    assert found["better"] == good
    assert found["differences"]["log_loss"]["high"] < 0
    assert found["differences"]["brier"]["high"] < 0
    figures = found["figures"]
    assert found["differences"]["auc"]["value"] == pytest.approx(
        figures["a"]["auc"] - figures["b"]["auc"]
    )
    assert found["verdict"].startswith(f"A is better, {good}")
    said = _run(capsys, "compare", bad, good, "--data", _public_file())
    assert f"B is better, {good}: its log-loss is" in said
    assert f"left out {found['rows_left_out']:,} rows: " in said
    assert "of customers whom A was trained on" in said


def test_of_two_alike_it_cannot_be_told_which_is_better(
    telco: Dataset, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    tags = [
        _register(telco.take(rows), name)
        for name, rows in zip(names, (HALF, slice(3000, 6000)), strict=True)
    ]
    found = _json(capsys, "compare", *tags, "--data", _public_file())
    assert found["better"] is None
    assert "may be chance" in found["verdict"]


def test_with_fewer_than_fifty_of_a_kind_nothing_is_told(
    telco: Dataset, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    good = _register(telco.take(slice(3500)), names[0])
    bad = _register(telco.take(slice(3500, 6900)), names[1], flipped=True)
    found = _json(capsys, "compare", good, bad, "--data", _public_file())
    assert found["rows"] <= 143
    assert found["customers"]["left"] < 50
    assert found["better"] is None
    assert "fewer than 50 of a kind" in found["verdict"]


def test_where_every_row_is_known_there_are_no_figures(
    telco: Dataset, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    tags = [_register(telco, name) for name in names]
    found = _json(capsys, "compare", *tags, "--data", _public_file())
    assert (found["rows"], found["differences"], found["better"]) == (0, {}, None)
    assert "0 customers who left" in _run(capsys, "compare", *tags, "--data", _public_file())


def test_whoever_is_known_by_one_row_is_left_out_with_all_rows(
    telco: Dataset, names: tuple[str, str]
) -> None:
    twice = telco.take(np.repeat(np.arange(400), 2))
    twice.X[::2, 0] += 1  # the second row of each is another one
    tags = [_register(twice.take(slice(1, 400, 2)), name) for name in names]
    # Without ids the customer is known by the groups alone.
    one, other = map(load_artifact, tags)
    found = compare(one, other, twice)
    assert found.trained_on == (400, 400)
    assert found.rows == 400


def test_a_model_of_which_nobody_knows_the_rows_is_compared_with_a_remark(
    telco: Dataset, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    tags = [_register(telco.take(HALF), name, known=False) for name in names]
    assert cli.main(["model", "compare", *tags, "--data", str(_public_file())]) == 0
    captured = capsys.readouterr()
    assert "nothing: neither is known" in captured.out
    for key in "AB":
        assert f"nobody knows which customers {key} was trained on" in captured.err


def test_fingerprints_that_were_changed_are_refused(
    telco: Dataset, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    tag = _register(telco.take(HALF), names[0])
    path = Path(bentoml.models.get(tag).path, FINGERPRINTS)
    path.write_bytes(path.read_bytes()[:-8])
    error = _fails(capsys, "compare", tag, tag, "--data", _public_file())
    assert f"the file {FINGERPRINTS} is not the one that was registered" in error


def test_a_table_that_is_refused_is_one_sentence(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _fails(capsys, "compare", saved, saved, "--data", tmp_path / "none.csv")
    assert "No such file" in error


def test_what_is_promoted_is_served_and_can_be_rolled_back(
    telco: Dataset, model_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (_register(telco.take(HALF), model_name) for _ in range(2))
    said = _run(capsys, "promote", first, "--reason", "the first")
    assert f"{first} is the champion now." in said
    assert find_model(model_name).tag == first
    said = _run(capsys, "promote", f"{model_name}:latest")
    assert f"{second} is the champion now, instead of {first.partition(':')[2]}." in said
    assert f"{second} is the champion already." in _run(capsys, "promote", model_name)
    said = _run(capsys, "rollback", model_name, "--reason", "alerts")
    assert f"{first} is the champion again" in said
    assert find_model(model_name).tag == first
    assert "has no champion before it to go back to" in _fails(capsys, "rollback", model_name)


def test_the_history_is_a_table_with_the_newest_change_first(
    telco: Dataset, model_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "was ever promoted: the latest is served" in _run(capsys, "history", model_name)
    assert "nothing to roll back" in _fails(capsys, "rollback", model_name)
    versions = [
        _register(telco.take(HALF), model_name).partition(":")[2],
        _register(telco.take(HALF), model_name).partition(":")[2],
    ]
    for version in versions:
        _run(capsys, "promote", f"{model_name}:{version}", "--reason", f"for {version}")
    _run(capsys, "rollback", model_name, "--reason", "alerts")
    capsys.readouterr()
    assert cli.main(["model", "history", model_name]) == 0
    _, *rows, served = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == [versions[0], versions[1], versions[0]]
    assert "rolled back: alerts" in rows[0]
    assert f"for {versions[1]}" in rows[1]
    assert served.endswith(f"{model_name}:{versions[0]}")
    found = _json(capsys, "history", model_name)
    assert found["champion"] == versions[0]
    assert [change["rolled_back"] for change in found["history"]] == [False, False, True]


@pytest.mark.parametrize("version", [":latest", ":champion", ""])
def test_a_champion_is_marked_in_the_list(
    version: str, telco: Dataset, model_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (_register(telco.take(HALF), model_name) for _ in range(2))
    _run(capsys, "promote", first)
    marks = {
        model["tag"]: model["champion"]
        for model in json.loads(_run(capsys, "list", model_name, "--json"))
    }
    assert marks == {first: True, second: False}
    assert f"> {first}" in _run(capsys, "list", model_name)
    shown = _json(capsys, "show", f"{model_name}{version}")["tag"]
    assert shown == (second if version == ":latest" else first)


def test_a_damaged_model_is_not_promoted(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = saved.partition(":")[0]
    Path(bentoml.models.get(saved).path, ARRAYS).write_bytes(b"")
    assert "cannot be served" in _fails(capsys, "promote", saved)
    assert not (models_folder() / name / ALIASES).exists()


def test_there_is_no_rollback_to_a_damaged_model(
    telco: Dataset, model_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (_register(telco.take(HALF), model_name) for _ in range(2))
    for tag in (first, second):
        _run(capsys, "promote", tag)
    Path(bentoml.models.get(first).path, ARRAYS).write_bytes(b"")
    assert "cannot be served" in _fails(capsys, "rollback", model_name)
    assert find_model(model_name).tag == second


def test_who_promotes_a_model_that_was_registered_by_force_is_told(
    telco: Dataset, model_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tag = _register(telco.take(HALF), model_name, forced=True)
    assert cli.main(["model", "promote", tag]) == 0
    assert "registered by force, against the gates: skill" in capsys.readouterr().err


def test_a_user_without_a_name_promotes_all_the_same(
    saved: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr("getpass.getuser", nameless)
    _run(capsys, "promote", saved)
    assert _json(capsys, "history", saved.partition(":")[0])["history"][0]["by"] == ""


@pytest.mark.parametrize("reason", ["a\nb", "\x1b[31m", "x" * 501])
def test_a_reason_that_would_spoil_the_history_is_a_wrong_call(
    reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["model", "promote", "a:b", "--reason", reason]) == 2
    assert "expected one line of up to 500 characters" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["history", "rollback"])
def test_broken_aliases_are_one_sentence(
    command: str, saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = saved.partition(":")[0]
    (models_folder() / name / ALIASES).write_text("{")
    assert "says nothing sensible" in _fails(capsys, command, name)
