"""The workflows run what the Makefile offers, on the Pythons that the project promises."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

PROJECT: Final = Path(__file__).parents[3]
GITHUB: Final = PROJECT / ".github"
WORKFLOWS: Final = sorted((GITHUB / "workflows").glob("*.yml"))
DEPENDABOT: Final[dict[str, Any]] = yaml.safe_load((GITHUB / "dependabot.yml").read_text())

# Where each ecosystem's updater looks for its files, below the folder that it is given.
ECOSYSTEM_FILES: Final = {
    "pip": "requirements/*.txt",
    "github-actions": ".github/workflows/*.yml",
    "docker": "Containerfile",
    "docker-compose": "compose.yaml",
}


def read(workflow: Path) -> dict[str, Any]:
    # YAML takes the word "on" for a truth value.
    content: dict[str, Any] = yaml.load(workflow.read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - the one that makes strings only
    return content


def jobs() -> dict[str, Any]:
    return {name: job for file in WORKFLOWS for name, job in read(file)["jobs"].items()}


def steps() -> list[dict[str, Any]]:
    return [step for job in jobs().values() for step in job["steps"]]


def test_every_target_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    used = {
        target
        for step in steps()
        for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))
    }
    assert used >= {"test", "test-system", "image-test"}
    assert used <= targets


def test_the_image_is_built_from_a_fresh_bento_and_then_tested() -> None:
    # That is why a single target is enough.
    text = (PROJECT / "Makefile").read_text()
    needs = dict(re.findall(r"^([a-z-]+): ([a-z-]+) .*##", text, re.MULTILINE))
    assert (needs["image-test"], needs["image"]) == ("image", "bento")


def test_the_pythons_are_those_that_the_project_promises() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (oldest,) = re.fullmatch(r">=3\.(\d+)", project["requires-python"]).groups()  # type: ignore[union-attr]  # a failure is one
    pythons = jobs()["test"]["strategy"]["matrix"]["python"]
    assert pythons == [f"3.{int(oldest) + newer}" for newer in range(3)]


def test_the_image_job_runs_the_python_of_the_image() -> None:
    (version,) = (
        step["with"]["python-version"]
        for step in jobs()["image"]["steps"]
        if step.get("uses", "").startswith("actions/setup-python@")
    )
    containerfile = (PROJECT / "deploy" / "container" / "Containerfile").read_text()
    assert f"python:{version}-slim" in containerfile


def test_actions_are_pinned_to_a_full_version() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_and_nothing_else(workflow: Path) -> None:
    content = read(workflow)
    assert content["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in content["jobs"].values())
    for step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_no_run_is_endless_or_doubled(workflow: Path) -> None:
    content = read(workflow)
    assert "github.ref" in content["concurrency"]["group"]
    for job in content["jobs"].values():
        assert int(job["timeout-minutes"]) <= 60


def test_dependabot_finds_what_it_is_to_update() -> None:
    assert {update["package-ecosystem"] for update in DEPENDABOT["updates"]} == set(ECOSYSTEM_FILES)
    for update in DEPENDABOT["updates"]:
        folder = PROJECT / update["directory"].lstrip("/")
        assert list(folder.glob(ECOSYSTEM_FILES[update["package-ecosystem"]])), folder
