from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
import pytest
from sklearn.linear_model import LogisticRegression

import train_and_save
from churn_serving.learning.candidates import KINDS
from churn_serving.learning.measuring import gates
from churn_serving.model.artifact import Trust, find_model, load_artifact
from churn_serving.model.signature import generate_key_pair, read_public_key

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

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
    (folder / "portable.json").unlink()
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
