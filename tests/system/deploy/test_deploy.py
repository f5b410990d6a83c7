"""The commands that build, when what they need is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]


def run(script: str, *arguments: str, path: Path | None = None, **env: str) -> tuple[int, str]:
    """Run one of the scripts with these programs on the PATH; return its code and its output."""
    done = subprocess.run(
        [sys.executable, str(PROJECT / "deploy" / script), *arguments],
        env={**os.environ, **({"PATH": str(path)} if path else {}), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def program(folder: Path, name: str, code: int) -> None:
    """Put a program there that does nothing but end with a code."""
    path = folder / name
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)


def test_without_an_engine_the_image_is_not_built_and_says_what_to_install(tmp_path: Path) -> None:
    code, output = run("container/image.py", "build", path=tmp_path)
    assert code == 1
    assert "There is no docker, podman or buildah that works here" in output


def test_an_engine_that_does_not_work_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path, "docker", 1)  # installed, but its daemon is not running
    program(tmp_path, "podman", 0)
    _, output = run("container/image.py", "build", "--bento", "no_such_bento", path=tmp_path)
    assert "docker, podman" not in output


def test_the_engine_that_is_asked_for_is_the_only_one_tried(tmp_path: Path) -> None:
    program(tmp_path, "podman", 0)
    code, output = run("container/image.py", "build", path=tmp_path, ENGINE="docker")
    assert code == 1
    assert "There is no docker that works here" in output


def test_without_a_bento_the_image_is_not_built(tmp_path: Path) -> None:
    program(tmp_path, "podman", 0)
    code, output = run("container/image.py", "build", "--bento", "no_such_bento", path=tmp_path)
    assert code == 1
    assert "no_such_bento" in output


def test_without_a_model_no_bento_is_built(tmp_path: Path) -> None:
    code, output = run("bento.py", BENTOML_HOME=str(tmp_path))
    assert code == 1
    assert "The Bento could not be built" in output
    assert "train" in output
    assert list(tmp_path.glob("bentos/*/*")) == []


@pytest.mark.parametrize("origin", ["http://127.0.0.1:9", "http://no.such.host.invalid"])
def test_the_contract_check_says_when_nobody_answers(origin: str) -> None:
    code, output = run("check.py", origin)
    assert code == 1
    assert f"nothing answers at {origin}" in output
