"""The command ``churn`` as a whole: quick, helpful, and never a traceback."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from churn_serving import cli
from churn_serving.cli import churn
from churn_serving.cli import model as commands
from churn_serving.cli.model import model_commands
from churn_serving.cli.score import TOO_MANY_REJECTED, score_command
from churn_serving.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pathlib import Path

TRAINING = [
    *("joblib", "lightgbm", "pandas", "pyarrow", "scipy", "sklearn", "threadpoolctl", "xgboost")
]


def _process(*arguments: str, missing: list[str] | None = None) -> tuple[int, str, list[str]]:
    """Run a command in a process of its own.

    Returns:
        Its exit code, what it printed, and the packages that it imported.
    """
    code = (
        "import sys, json\n"
        "from importlib.machinery import PathFinder\n"
        f"missing = {missing or []!r}\n"
        "class Finder(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, *rest):\n"
        "        if name.partition('.')[0] not in missing:\n"
        "            return super().find_spec(name, *rest)\n"
        "sys.meta_path[sys.meta_path.index(PathFinder)] = Finder\n"
        "from churn_serving.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    *printed, imported = done.stdout.splitlines()
    return done.returncode, "\n".join((*printed, done.stderr)), json.loads(imported)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["score", "-h"],
        ["model", "--help"],
        *(["model", name, "-h"] for name in model_commands.commands),
    ],
)
def test_help_loads_nothing_that_takes_long(arguments: list[str]) -> None:
    code, _, imported = _process(*arguments)
    assert code == 0
    assert not {"bentoml", "numpy", "pydantic", "nacl", "rich", *TRAINING} & set(imported)


@pytest.mark.parametrize("command", model_commands.commands.values(), ids=model_commands.commands)
def test_each_command_says_what_it_does_and_shows_examples(
    command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["model", str(command.name), "--help"]) == 0
    text = capsys.readouterr().out
    assert f"    churn model {command.name}" in text
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_command_for_tables_names_its_exit_codes_and_shows_examples_that_click_can_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["score", "--help"]) == 0
    text = capsys.readouterr().out
    for code in (0, 1, 2, TOO_MANY_REJECTED, cli.INTERRUPTED):
        assert f"\n    {code:<4} " in text
    examples = [line for line in text.splitlines() if line.startswith("    churn score ")]
    assert examples
    for line in examples:
        with score_command.make_context("score", shlex.split(line)[2:]):
            pass


def test_scoring_a_table_without_arrow_says_which_extra_has_it() -> None:
    code, said, _ = _process("score", "t.csv", "--output", "scores", missing=["pyarrow"])
    assert code == 1
    assert "pip install 'churn-serving[bulk]'" in said


@pytest.mark.parametrize(
    "arguments",
    [["t"], ["t", "--output", "o", "--reasons", "8"], ["t", "--output", "o", "--keep", "a,,b"]],
    ids=" ".join,
)
def test_a_wrong_call_to_score_a_table_is_explained(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["score", *arguments]) == 2
    assert "Usage: churn score" in capsys.readouterr().err


def test_each_example_is_a_command_that_click_can_read() -> None:
    for name, command in model_commands.commands.items():
        lines = (command.epilog or "").splitlines()[2:]
        assert lines
        for line in lines:
            program, group, called, *arguments = line.split()
            assert (program, group, called) == ("churn", "model", name)
            with command.make_context(name, arguments):
                pass


def test_the_list_of_commands_says_each_in_a_whole_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["model", "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:")[2].strip().splitlines()
    assert len(listed) == len(model_commands.commands)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize(
    "arguments",
    [[], ["model"], ["modle"], ["model", "show", "--nope"], ["model", "sign"], ["model", "verify"]],
    ids=" ".join,
)
def test_a_wrong_call_is_explained_and_exits_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert "Usage: churn" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("value", ["Name", "", "a b", "../x"])
def test_a_name_that_the_store_cannot_have_is_a_wrong_call(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["model", "register", "f", "--name", value]) == 2
    assert "expected up to 63 lower case letters" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["team", "=retention"])
def test_a_label_without_a_key_is_a_wrong_call(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["model", "register", "f", "--label", value]) == 2
    assert "expected KEY=VALUE" in capsys.readouterr().err


def test_ctrl_c_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("churn_serving.cli.inspection.list_models", interrupted)
    assert cli.main(["model", "list"]) == 130
    assert capsys.readouterr().err.strip() == "Interrupted."


def test_a_full_disk_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "portable.npz")

    monkeypatch.setattr("churn_serving.cli.inspection.list_models", full)
    assert cli.main(["model", "list"]) == 1
    assert capsys.readouterr().err == "error: portable.npz: No space left on device\n"


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'churn_serving.nonsense'", name="churn_serving")

    monkeypatch.setattr("churn_serving.cli.inspection.list_models", broken)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["model", "list"])


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (["register", "forest.joblib"], "joblib"),
        (["convert", "churn_classifier"], "joblib"),
        (["compare", "a", "b", "--data", "c"], "sklearn"),
    ],
    ids=["register", "convert", "compare"],
)
def test_a_command_that_needs_training_libraries_says_which_extra_has_them(
    arguments: list[str], package: str
) -> None:
    code, said, _ = _process("model", *arguments, missing=TRAINING)
    assert code == 1
    assert f"needs {package}, which is not installed here" in said
    assert "pip install 'churn-serving[train]'" in said


def test_a_bento_says_that_it_does_not_make_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "churn_serving.learning.compile", None)
    monkeypatch.delitem(sys.modules, "churn_serving.cli.registration", raising=False)
    assert cli.main(["model", "register", "forest.joblib"]) == 1
    assert "A Bento leaves out what makes models" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "show", "verify", "promote"])
def test_looking_at_models_needs_no_training_library(command: str, saved: str) -> None:
    arguments = [saved.partition(":")[0]] if command == "list" else [saved]
    code, said, imported = _process("model", command, *arguments, missing=TRAINING)
    assert code == 0, said
    assert saved in said
    assert "numpy" in imported


def test_signing_needs_no_training_library(saved: str, tmp_path: Path) -> None:
    assert cli.main(["model", "keygen", "--output", f"{tmp_path}/k"]) == 0
    code, said, _ = _process(
        "model", "sign", saved, "--key", f"{tmp_path}/k.key.pem", missing=TRAINING
    )
    assert code == 0, said


def test_the_module_runs_where_no_script_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "churn_serving.cli", "--version"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"churn-serving, version ")


def test_the_environment_variables_are_those_of_serving() -> None:
    settings = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    variables = {value for name, value in vars(commands).items() if name.endswith("_VARIABLE")}
    assert len(variables) == 3
    assert variables <= settings
    default = Settings.model_fields["model_tag"].default
    assert {
        parameter.default
        for command in model_commands.commands.values()
        for parameter in command.params
        if parameter.envvar == commands.TAG_VARIABLE
    } == {default}


def test_the_group_leaves_room_for_others() -> None:
    assert churn.commands == {"model": model_commands, "score": score_command}
