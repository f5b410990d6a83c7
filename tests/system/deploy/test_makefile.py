"""What the targets of the Makefile would run."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

PROJECT: Final = Path(__file__).parents[3]
HERE: Final = "127.0.0.1"
COMMAND_LINE: Final = ("TARGET", "SERVERS", "SIGN_KEY", "SKLEARN", "BULK")


def make(*arguments: str, **env: str) -> list[str]:
    """Return the lines that make prints; the caller's own settings are not passed on."""
    names = {
        "HOST",
        "CHURN_MODEL_TAG",
        "CHURN_ALLOW_PICKLE",
        "no_proxy",
        "NO_PROXY",
        "MAKEFLAGS",
        *COMMAND_LINE,
    }
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],  # noqa: S607 - the user's own
        cwd=PROJECT,
        env=inherited | env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def commands(*arguments: str, **env: str) -> str:
    """Return what targets would run where nothing is installed yet."""
    return "\n".join(make("--dry-run", "VENV=build/no-such-venv", *arguments, **env))


def test_help_lists_every_target_under_a_heading() -> None:
    text = (PROJECT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)", text, re.MULTILINE)
    lines = make("help")
    headings = [line for line in lines if re.fullmatch(r"[A-Z][a-z]+", line)]
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert headings == ["Use", "Develop", "Deploy", "Measure"]
    assert lines.index("Use") < lines.index(next(line for line in lines if line.startswith("  ")))
    assert sorted([*listed, "help"]) == sorted(phony.replace("\\\n", "").split())


@pytest.mark.parametrize("target", ["serve", "dev"])
@pytest.mark.parametrize(
    ("given", "env", "host"),
    [
        ((), {}, HERE),
        (("HOST=0.0.0.0",), {}, "0.0.0.0"),  # noqa: S104 - what the user asks for
        (("HOST=box.local",), {}, "box.local"),
        ((), {"HOST": "0.0.0.0"}, "0.0.0.0"),  # noqa: S104 - likewise
        ((), {"HOST": "::"}, "::"),
        # Some shells export the machine's name under it.
        ((), {"HOST": "box.local"}, HERE),
        ((), {"HOST": ""}, HERE),
        ((), {"HOST": "box2; echo 1.2.3.4"}, HERE),
    ],
)
def test_the_service_listens_on_this_machine_unless_host_says_otherwise(
    target: str, given: tuple[str, ...], env: dict[str, str], host: str
) -> None:
    assert f" --host {host} --port 3000" in commands(target, *given, **env)


def test_serving_installs_what_serving_and_training_need_and_no_more() -> None:
    installed = set(re.findall(r"requirements/(\w+)\.txt", commands("serve")))
    assert installed == {"runtime", "sklearn", "train", "build", "data"}


@pytest.mark.parametrize(
    ("target", "levels"),
    [("lint", ["dev", "boosters", "test"]), ("load", ["dev", "load"]), ("bench", ["dev", "bench"])],
)
def test_a_lock_is_installed_after_those_below_it(target: str, levels: list[str]) -> None:
    installed = re.findall(r"-r requirements/(\w+)\.txt", commands(target))
    assert installed == ["runtime", "sklearn", "train", "build", "data", *levels]


def test_all_the_tests_are_those_of_both_commands_each_once() -> None:
    def runs(target: str) -> list[str]:
        return re.findall(r"^\S+/bin/(?:pytest|ruff|mypy)\b.*", commands(target), re.MULTILINE)

    assert runs("test-all") == [*runs("test"), *runs("test-system")]
    tests = [run for run in runs("test-all") if "pytest" in run]
    assert [re.findall(r"tests/\w+", run) for run in tests] == [
        ["tests/package", "tests/service"],
        ["tests/system"],
    ]


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_stands_between_this_machine_and_itself(name: str) -> None:
    show = ("--eval", 'show: ; @echo "$$no_proxy $$NO_PROXY"', "show")
    loopback = "localhost,127.0.0.1,::1"
    assert make(*show) == [f"{loopback} {loopback}"]
    assert make(*show, **{name: "a.b"}) == [f"a.b,{loopback} a.b,{loopback}"]


@pytest.mark.parametrize("target", ["image", "image-bentoml"])
def test_the_image_holds_the_bento_that_was_just_built(target: str) -> None:
    run = commands(target)
    (tag,) = re.findall(r"bento\.py --write-tag (\S+)", run)
    assert f'--bento "$(cat {tag})"' in run


def test_a_model_that_is_named_is_trained_under_that_name_if_it_is_missing() -> None:
    for target in ("serve", "dev", "bento"):
        assert "--if-missing --name old" in commands(target, CHURN_MODEL_TAG="old:latest")


def test_the_load_test_takes_the_address_of_a_service_and_then_trains_nothing() -> None:
    run = commands("load", "TARGET=https://churn.example.com")
    assert "--host https://churn.example.com" in run
    assert "train_and_save.py" not in run
    assert "train_and_save.py" in commands("load", TARGET="from-the-environment")


def test_the_bench_takes_servers() -> None:
    assert "-m bench ours triton --help" in commands("bench", "SERVERS=ours triton", "ARGS=--help")


def test_a_model_is_signed_with_the_key_that_is_given() -> None:
    assert "--sign-key 'my key.pem' --seed 1" in commands(
        "train", "SIGN_KEY=my key.pem", "ARGS=--seed 1"
    )
    assert "--sign-key" not in commands("train", SIGN_KEY="from-the-environment")


@pytest.mark.parametrize(
    ("given", "holds"), [((), False), (("BULK=0",), False), (("BULK=1", "SKLEARN=1"), True)]
)
def test_the_image_holds_arrow_only_on_demand(given: tuple[str, ...], holds: bool) -> None:  # noqa: FBT001 - a parameter of the test
    run = commands("image-test", *given)
    steps = re.findall(r"container\.image (\w+).*?(--bulk)?$", run, re.MULTILINE)
    assert steps == [(step, "--bulk" * holds) for step in ("build", "test")]


@pytest.mark.parametrize(
    ("given", "holds"), [((), False), (("SKLEARN=0",), False), (("SKLEARN=1",), True)]
)
def test_the_image_holds_scikit_learn_only_on_demand(given: tuple[str, ...], holds: bool) -> None:  # noqa: FBT001 - a parameter of the test
    run = commands("image-test", *given)
    steps = re.findall(r"container\.image (\w+).*?(--sklearn)?$", run, re.MULTILINE)
    assert steps == [(step, "--sklearn" * holds) for step in ("build", "test")]
    show = ("--eval", 'show: ; @echo "$$CHURN_ALLOW_PICKLE"', "show")
    assert make(*show, *given) == ["true" if holds else ""]
