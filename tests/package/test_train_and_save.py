from __future__ import annotations

import io
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import train_and_save
from churn_serving.learning import registration
from churn_serving.learning.candidates import CANDIDATES, KINDS, fit
from churn_serving.learning.comparison import FINGERPRINTS, known_rows
from churn_serving.learning.dataset import _public_file
from churn_serving.learning.measuring import gates
from churn_serving.learning.measuring.fingerprints import fingerprints, seen
from churn_serving.learning.registration import save_artifact
from churn_serving.model.aliases import ALIASES, promote
from churn_serving.model.artifact import Trust, find_model, load_artifact, models_folder
from churn_serving.model.policy import read_policy
from churn_serving.model.signature import generate_key_pair, read_public_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from churn_serving.learning.dataset import Dataset

    StoreFiles = Callable[[], dict[str, bytes]]

pytestmark = pytest.mark.usefixtures("few_bootstrap_samples", "few_customers")


@pytest.fixture
def few_customers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small table trains quickly; what the gates stop has tests of its own."""
    if "real_gates" not in request.fixturenames:
        monkeypatch.setattr(gates, "MIN_TEST_CUSTOMERS", 10)


@pytest.fixture
def real_gates() -> None:
    """The gates are as they are."""


@pytest.fixture
def table(raw: pd.DataFrame, tmp_path: Path) -> Path:
    """A good training table."""
    path = tmp_path / "customers.csv"
    raw.to_csv(path, index=False)
    return path


def _run(*arguments: object) -> int:
    return train_and_save.main([str(argument) for argument in arguments])


def _refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return what is said about arguments that argparse refuses."""
    with pytest.raises(SystemExit) as stopped:
        _run(*arguments)
    assert stopped.value.code == 2
    return _in_one_line(capsys.readouterr().err)


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def test_success_prints_the_comparison_and_the_tag_and_exits_with_0(
    table: Path, model_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--data", table, "--name", model_name) == 0
    captured = capsys.readouterr()
    out = _in_one_line(captured.out)
    assert "400 rows, 25.5% left: customers.csv" in out
    assert "note: Read as the raw Telco table" in out
    assert "Value and 95% interval" in out
    for metric in ("AUC", "log-loss", "Brier", "F1"):
        assert re.search(rf"^{metric} +\d\.\d{{3}} ", captured.out, re.MULTILINE), metric
    assert "cross-validated" in out
    assert "80 held-out" in out
    assert "Chosen: logistic, the simplest within one standard error" in out
    assert "if those above 0.164 are contacted" in out
    tag = find_model(f"{model_name}:latest").tag
    assert f"Registered {tag}. Serve it with: make serve" in out
    assert captured.err == ""


def test_the_model_is_kept_with_its_data_seed_figures_and_labels(
    table: Path, model_name: str
) -> None:
    arguments = (
        "--model",
        "logistic",
        "--seed",
        7,
        "--label",
        "team=retention",
        "--label",
        "x=a=b",
    )
    assert _run("--data", table, "--name", model_name, *arguments) == 0
    tag = find_model(f"{model_name}:latest").tag
    metadata = load_artifact(tag).metadata
    assert metadata["data"]["source"] == "customers.csv"
    assert metadata["data"]["rows"] == 400
    assert len(metadata["data"]["sha256"]) == 64
    assert metadata["seed"] == 7
    assert metadata["candidate"] == "logistic"
    assert (metadata["train_rows"], metadata["test_rows"]) == (320, 80)
    assert set(metadata["cross_validation"]) == {"logistic"}
    assert set(metadata["held_out"]) >= {"auc", "log_loss", "brier", "f1"}
    assert set(metadata["held_out"]["auc"]) == {"value", "low", "high"}
    assert load_artifact(tag).threshold == metadata["decision_threshold"]
    assert bentoml.models.get(tag).info.labels == {"team": "retention", "x": "a=b"}


def test_the_same_data_and_seed_register_the_same_model_twice(table: Path, model_name: str) -> None:
    checksums = set()
    for _ in range(2):
        assert _run("--data", table, "--name", model_name, "--model", "logistic") == 0
        checksums.add(load_artifact(f"{model_name}:latest").metadata["model_sha256"])
    assert len(checksums) == 1


def test_a_key_signs_the_model(table: Path, model_name: str, tmp_path: Path) -> None:
    private_pem, public_pem = generate_key_pair()
    (tmp_path / "key.pem").write_bytes(private_pem)
    (tmp_path / "pub.pem").write_bytes(public_pem)
    arguments = ("--model", "logistic", "--sign-key", tmp_path / "key.pem")
    assert _run("--data", table, "--name", model_name, *arguments) == 0
    trust = Trust(public_key=read_public_key(tmp_path / "pub.pem"))
    assert load_artifact(f"{model_name}:latest", trust).tag.startswith(model_name)


def test_a_key_that_cannot_sign_is_told_before_anything_is_trained(
    table: Path,
    model_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*_: object, **__: object) -> Any:
        pytest.fail("it trained")

    monkeypatch.setattr("churn_serving.learning.training.train", never)
    (tmp_path / "pub.pem").write_bytes(generate_key_pair()[1])
    arguments = ("--data", table, "--name", model_name, "--sign-key", tmp_path / "pub.pem")
    assert _run(*arguments) == 1
    assert "holds a public key, which cannot sign" in _in_one_line(capsys.readouterr().err)


def test_the_profit_is_that_of_the_policy_that_is_named(
    table: Path, model_name: str, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("customer_value = 400\n")
    arguments = ("--data", table, "--name", model_name, "--model", "logistic", "--policy", file)
    assert _run(*arguments) == 0
    found = load_artifact(model_name).metadata["profit"]
    assert found["policy_version"] == read_policy(file).version
    assert found["threshold"] == 11 / (0.3 * 390 + 10)


def test_a_policy_that_contradicts_itself_is_told_before_anything_is_trained(
    model_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("offer_cost = 400\n")
    data = tmp_path / "none.csv"
    assert _run("--data", data, "--name", model_name, "--policy", file) == 1
    assert "offer_cost must be below customer_value" in _in_one_line(capsys.readouterr().err)


def _without_churn(raw: pd.DataFrame) -> pd.DataFrame:
    return raw.drop(columns="Churn")


def _unknown_contract(raw: pd.DataFrame) -> pd.DataFrame:
    raw.loc[4:30, "Contract"] = "Weekly"
    return raw


def _one_class(raw: pd.DataFrame) -> pd.DataFrame:
    return raw.assign(Churn="No")


def _no_rows(raw: pd.DataFrame) -> pd.DataFrame:
    return raw.head(0)


def _five_rows(raw: pd.DataFrame) -> pd.DataFrame:
    return raw.head(5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_churn, "Missing column 'Churn'"),
        (_unknown_contract, "Column 'Contract', rows 5, 6, 7, 8, 9 and 22 more: expected one of"),
        (_one_class, "Column 'Churn' holds only one class"),
        (_no_rows, "The table has no rows."),
        (_five_rows, "customers who left"),
    ],
)
def test_bad_data_is_explained_exits_with_1_and_leaves_the_store_as_it_was(
    *,
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
    message: str,
    raw: pd.DataFrame,
    saved: str,
    store_files: StoreFiles,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad.csv"
    spoil(raw).to_csv(path, index=False)
    before = store_files()
    assert _run("--data", path, "--name", saved.partition(":")[0]) == 1
    error = _in_one_line(capsys.readouterr().err)
    assert error.startswith("error: ")
    assert message in error
    assert error.endswith("No model was registered.")
    assert store_files() == before


def test_a_missing_file_is_explained_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--data", tmp_path / "missing.csv") == 1
    assert "missing.csv: No such file or directory." in _in_one_line(capsys.readouterr().err)


@pytest.mark.parametrize("name", ["a[b].csv", "a[red]b.csv", "[bold]", "x[/b].csv"])
def test_brackets_in_a_path_are_printed_as_they_are(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--data", tmp_path / name) == 1
    # A long path is wrapped anywhere.
    assert name in "".join(capsys.readouterr().err.split())


def test_brackets_in_the_name_of_a_good_table_are_printed_as_they_are(
    table: Path, model_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table.rename(table.with_name("march[final].csv"))
    assert _run("--data", path, "--name", model_name, "--model", "logistic") == 0
    assert "left: march[final].csv" in capsys.readouterr().out


def test_ctrl_c_while_training_exits_with_130_and_leaves_the_store_as_it_was(
    table: Path,
    saved: str,
    store_files: StoreFiles,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    before = store_files()
    monkeypatch.setattr("churn_serving.learning.training.evaluate", interrupted)
    assert _run("--data", table, "--name", saved.partition(":")[0], "--model", "logistic") == 130
    captured = capsys.readouterr()
    assert _in_one_line(captured.err) == "Interrupted. No model was registered."
    assert "Registered" not in captured.out
    assert store_files() == before
    assert find_model(saved.partition(":")[0]).tag == saved


def test_a_full_disk_is_explained_exits_with_1_and_leaves_the_store_as_it_was(
    table: Path,
    saved: str,
    store_files: StoreFiles,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = store_files()
    monkeypatch.setattr("shutil.copytree", full)
    assert _run("--data", table, "--name", saved.partition(":")[0], "--model", "logistic") == 1
    error = _in_one_line(capsys.readouterr().err)
    assert "No space left on device" in error
    assert error.endswith("No model was registered.")
    assert store_files() == before


def test_if_missing_does_nothing_when_the_store_has_a_model(
    saved: str, store_files: StoreFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = store_files()
    # With --data that cannot be read: nothing must be trained.
    arguments = ("--if-missing", "--name", saved.partition(":")[0], "--data", tmp_path / "none")
    assert _run(*arguments) == 0
    assert _in_one_line(capsys.readouterr().out) == f"The model store already has {saved}."
    assert store_files() == before


def test_if_missing_trains_when_the_store_has_no_such_model(
    table: Path, saved: str, model_name: str
) -> None:
    other = f"{model_name}-other"
    assert saved.startswith(f"{model_name}:")
    assert _run("--if-missing", "--name", other, "--data", table, "--model", "logistic") == 0
    assert find_model(other).tag.startswith(f"{other}:")


def _damaged(folder: Path) -> str:
    (folder / "portable.npz").write_bytes(b"")
    return "portable.npz is not the one that was registered"


def _of_other_columns(folder: Path) -> str:
    path = folder / "portable.json"
    path.write_text(path.read_text().replace('"has_internet",', '"has_internet", "gender",', 1))
    return "needs 'gender'"


def _of_version_0_1(folder: Path) -> str:
    for name in ("portable.json", "portable.npz"):
        (folder / name).unlink()
    return f"convert it with: churn model convert {folder.parent.name}:{folder.name}"


@pytest.mark.parametrize("spoil", [_damaged, _of_other_columns, _of_version_0_1])
def test_if_missing_takes_a_model_that_cannot_be_served_for_missing_and_says_so(
    spoil: Callable[[Path], str], table: Path, saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = saved.partition(":")[0]
    reason = spoil(Path(bentoml.models.get(saved).path))
    assert _run("--if-missing", "--name", name, "--data", table, "--model", "logistic") == 0
    said = _in_one_line(capsys.readouterr().out)
    assert reason in said
    assert "A new one is trained beside it." in said
    assert find_model(name).tag != saved
    assert Path(bentoml.models.get(saved).path).exists()


def test_without_if_missing_a_further_version_is_registered(table: Path, saved: str) -> None:
    name = saved.partition(":")[0]
    assert _run("--name", name, "--data", table, "--model", "logistic") == 0
    assert find_model(f"{name}:latest").tag != saved
    assert load_artifact(saved).tag == saved


@pytest.mark.parametrize("label", ["team", "=retention", "", "="])
def test_refuses_a_label_that_is_not_key_and_value(
    label: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "argument --label: expected KEY=VALUE" in _refused(capsys, "--label", label)


@pytest.mark.parametrize("seed", ["-1", "4294967296", "1.5", "forty-two", "", "nan"])
def test_refuses_a_seed_that_is_no_32_bit_number(
    seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "argument --seed: expected a whole number from 0 to 4294967295"
    assert message in _refused(capsys, f"--seed={seed}")


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_takes_the_smallest_and_the_largest_seed(seed: int, table: Path, model_name: str) -> None:
    arguments = ("--data", table, "--name", model_name, "--model", "logistic", "--seed", seed)
    assert _run(*arguments) == 0
    assert load_artifact(f"{model_name}:latest").metadata["seed"] == seed


@pytest.mark.parametrize(
    "name", ["Churn", "a b", "a:b", "-a", "a-", "", "a/b", "../a", "a" * 64, "é", "a\n"]
)
def test_refuses_a_name_that_the_store_cannot_keep(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "argument --name: expected up to 63 lower case letters, digits, '_', '.' and '-'"
    assert message in _refused(capsys, f"--name={name}")


@pytest.mark.parametrize("name", ["a", "0", "churn_v2.1-eu", "a" * 63])
def test_every_name_that_is_taken_suits_the_store(name: str) -> None:
    assert bentoml.Tag.from_str(f"{train_and_save._name(name)}:latest").name == name


def test_refuses_an_unknown_model_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    error = _refused(capsys, "--model", "oracle")
    for choice in ("auto", "logistic", "hist-gradient-boosting"):
        assert choice in error


def test_the_models_to_choose_from_are_the_candidates() -> None:
    choices = ["auto", *(kind.name for kind in KINDS)]
    assert list(train_and_save.MODELS) == choices


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        _run("--help")
    assert stopped.value.code == 0
    text = _in_one_line(capsys.readouterr().out)
    options = (
        "--data --time --model --champion --force --seed --name --label --sign-key --if-missing"
    )
    for option in options.split():
        assert option in text
    for action in train_and_save._parser()._actions:
        assert action.help
        assert max(action.option_strings, key=len) in text
    assert "Train the churn model" in text
    assert "default: 42" in text
    assert "default: churn_classifier" in text


def test_a_model_of_somebody_else_under_the_name_is_told_of_and_trained_beside(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = bentoml.sklearn.save_model("taken", LogisticRegression())
    assert _run("--if-missing", "--name", "taken", "--data", table, "--model", "logistic") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"The model '{saved.tag}' was saved by something else" in said
    assert len(bentoml.models.list("taken")) == 2


# What keeps a model from being registered.

PLENTY = 2000
"""So many customers of the public table that the gates can tell."""


@pytest.fixture(scope="module")
def customers() -> pd.DataFrame:
    """The public table, every cell as text."""
    return pd.read_csv(_public_file(), dtype=str, keep_default_na=False)


@pytest.fixture
def gated(model_name: str, tmp_path: Path) -> Callable[..., int]:
    """Train a logistic regression on a table."""

    def run(table: pd.DataFrame, *arguments: object) -> int:
        table.to_csv(tmp_path / "t.csv", index=False)
        return _run(
            *("--data", tmp_path / "t.csv", "--name", model_name, "--model", "logistic"),
            *arguments,
        )

    return run


def _swapped(churn: pd.Series[str], share: float) -> Any:
    """Give a share of the customers the other label."""
    chosen = np.random.default_rng(0).random(len(churn)) < share
    return np.where(chosen, churn.map({"Yes": "No", "No": "Yes"}), churn)


def _coin_flips(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(Churn=_swapped(table["Churn"], 0.45))


def _after_the_fact(table: pd.DataFrame) -> pd.DataFrame:
    """Give the label away: the last bill of who left was written as a final one."""
    left = table["Churn"] == "Yes"
    return table.assign(MonthlyCharges=np.where(left, "18", "19.5"), TotalCharges="2000")


def _few(table: pd.DataFrame) -> pd.DataFrame:
    left = table["Churn"] == "Yes"
    return pd.concat([table[~left], table[left].head(240)])


@pytest.mark.usefixtures("real_gates")
@pytest.mark.parametrize(
    ("spoil", "gate", "sentence"),
    [
        (_coin_flips, "skill", "The model is not better than saying 4"),
        (_after_the_fact, "leak", "The field 'monthly_charges' alone tells of 100.0% of"),
        (_few, "test-size", "48 held-out customers left and"),
    ],
    ids=["45% flipped labels", "a leak", "few who left"],
)
def test_a_gate_stops_a_model_unless_it_is_forced(
    *,
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
    gate: str,
    sentence: str,
    customers: pd.DataFrame,
    gated: Callable[..., int],
    model_name: str,
    store_files: StoreFiles,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = spoil(customers.head(PLENTY))
    before = store_files()
    assert gated(table) == 1
    captured = capsys.readouterr()
    assert store_files() == before
    error = _in_one_line(captured.err)
    assert error.startswith("stopped: ")
    assert sentence in error
    assert error.endswith("pass --force. No model was registered.")
    assert gated(table, "--force", "--label", "team=x") == 0
    model = find_model(model_name)
    assert model.manifest.labels == {"team": "x", "forced": gate}
    assert [each.startswith(sentence) for each in model.metadata["forced"]] == [True]
    verdicts = {each["gate"]: each["outcome"] for each in model.metadata["gates"]}
    assert verdicts[gate] == "stopped"
    assert f"labelled forced={gate}" in capsys.readouterr().out


@pytest.fixture
def champion(telco: Dataset, model_name: str) -> str:
    """The tag of a good model of customers who are in no other table here."""
    others = telco.take(slice(4000, None))
    return save_artifact(
        estimator=fit(CANDIDATES[0], others.X, others.y, 0),
        threshold=0.3,
        measured={},
        name=f"{model_name}-champion",
        attachments={FINGERPRINTS: fingerprints(others.X, others.ids).to_bytes()},
    )


def _of_a_bad_past(customers: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which a third of the labels was wrong until lately."""
    table = customers.head(PLENTY).assign(month=[str(number) for number in range(PLENTY)])
    past = table.index < PLENTY * 0.8
    return table.assign(Churn=np.where(past, _swapped(table["Churn"], 0.35), table["Churn"]))


@pytest.mark.usefixtures("real_gates")
def test_a_model_that_is_worse_than_the_champion_is_stopped(
    *,
    customers: pd.DataFrame,
    champion: str,
    gated: Callable[..., int],
    model_name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = _of_a_bad_past(customers)
    assert gated(table, "--time", "month", "--champion", champion) == 1
    assert "stopped: Worse than the champion: on 393 customers" in _in_one_line(
        capsys.readouterr().err
    )
    assert gated(table, "--time", "month") == 0
    assert find_model(model_name).metadata["split"]["by"] == "time"
    # Once a version is promoted, it need not be named.
    name = champion.partition(":")[0]
    promote(models_folder() / name, champion.partition(":")[2], by="", reason="")
    assert gated(table, "--time", "month", "--name", name) == 1
    assert "Worse than the champion" in _in_one_line(capsys.readouterr().err)
    assert gated(table, "--time", "month", "--name", name, "--force") == 0
    said = _in_one_line(capsys.readouterr().out)
    assert "The champion is still served" in said
    forced = find_model(f"{name}:latest")
    assert f"churn model promote {forced.tag}" in said
    assert forced.manifest.labels["forced"].split(",")[-1] == "champion"
    assert find_model(name).tag == champion


def test_a_model_as_good_as_the_champion_is_registered(
    *,
    customers: pd.DataFrame,
    champion: str,
    gated: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert gated(customers.head(PLENTY), "--champion", champion) == 0
    assert "No worse than the champion: on 3" in _in_one_line(capsys.readouterr().out)


def test_a_champion_of_which_nobody_knows_the_rows_is_not_compared_with(
    table: Path, saved: str, model_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--data", table, "--name", model_name, "--model", "logistic")
    assert _run(*arguments, "--champion", saved) == 0
    assert "skipped: Not compared with the champion: nobody knows" in _in_one_line(
        capsys.readouterr().out
    )


def test_a_champion_that_is_not_there_is_told_before_the_training(
    table: Path, model_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--data", table, "--name", model_name, "--champion", "nobody:x")
    assert _run(*arguments) == 1
    captured = capsys.readouterr()
    assert "no model 'nobody:x'" in _in_one_line(captured.err)
    assert captured.out == ""


@pytest.mark.parametrize("broken", ["file", "model"])
def test_a_promoted_champion_that_cannot_be_loaded_is_told_of(
    broken: str, table: Path, saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, _, version = saved.partition(":")
    promote(models_folder() / name, version, by="", reason="")
    if broken == "file":
        (models_folder() / name / ALIASES).write_text("{")
    else:
        _damaged(Path(bentoml.models.get(saved).path))
    assert _run("--data", table, "--name", name, "--model", "logistic") == 0
    assert "note: Not compared with the champion: " in capsys.readouterr().out
    # A new one would not be served in its place, so a person must decide.
    assert _run("--if-missing", "--data", table, "--name", name, "--model", "logistic") == 1
    assert find_model(f"{name}:latest").tag != saved


def test_what_a_model_was_trained_on_is_kept_with_it(
    table: Path, model_name: str, small: Dataset
) -> None:
    assert _run("--data", table, "--name", model_name, "--model", "logistic") == 0
    known = known_rows(find_model(model_name))
    assert known is not None
    assert seen(known, small.X, small.ids).sum() == 320


# Before and after the training.


def test_a_store_that_cannot_be_written_is_told_before_the_table_is_read(
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(registration, "models_folder", lambda: tmp_path / "file" / "models")
    assert _run("--data", table) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(
        r"error: The model store cannot be written \(.*file.*\); is BENTOML_HOME .*\n"
        "No model was registered.\n",
        captured.err,
    )


def test_sigterm_ends_the_training_as_ctrl_c_does(
    table: Path,
    saved: str,
    store_files: StoreFiles,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ended(*_: object, **__: object) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)

    before, handler = store_files(), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("shutil.copytree", ended)
    assert _run("--data", table, "--name", saved.partition(":")[0], "--model", "logistic") == 143
    assert _in_one_line(capsys.readouterr().err) == "Terminated. No model was registered."
    assert store_files() == before
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_table_is_read_from_standard_input(
    raw: pd.DataFrame,
    model_name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = io.BytesIO(raw.to_csv(index=False).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    assert _run("--data", "-", "--name", model_name, "--model", "logistic") == 0
    assert "400 rows, 25.5% left: standard input" in capsys.readouterr().out


def test_a_folder_of_parquet_parts_is_read(
    own: pd.DataFrame, model_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, part in enumerate((own.head(200), own.tail(200))):
        part.to_parquet(tmp_path / f"{number}.parquet")
    assert _run("--data", tmp_path, "--name", model_name, "--model", "logistic") == 0
    assert "400 rows, 25.5% left" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_each_kind_that_is_offered_can_be_named(kind: str) -> None:
    assert train_and_save._parser().parse_args(["--model", kind]).model == kind
