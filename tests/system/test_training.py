"""Trainings in processes of their own: many at once, and such as are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import bentoml
import pandas as pd
import pytest
from bentoml._internal.models.model import ModelStore

from churn_serving.learning.dataset import _public_file
from tests.system.conftest import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AT_ONCE = 15
TRAIN = str(PROJECT / "train_and_save.py")
PATIENCE = 240


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that is trained on in no time."""
    path = tmp_path_factory.mktemp("data") / "customers.csv"
    pd.read_csv(_public_file(), dtype=str, keep_default_na=False).head(400).to_csv(path)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A BENTOML_HOME of its own, for the processes."""
    return tmp_path / "home"


def _start(home: Path, table: Path, code: str = "") -> subprocess.Popen[str]:
    """Train in a process that has run this code before."""
    program = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import train_and_save\n{code}\n"
    arguments = ("--data", str(table), "--model", "logistic", "--name", "m", "--force")
    return subprocess.Popen(
        [sys.executable, "-c", f"{program}sys.exit(train_and_save.main())", *arguments],
        env={**os.environ, "BENTOML_HOME": str(home), "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def _versions(home: Path) -> list[str]:
    """Return what BentoML itself finds in a store."""
    try:
        return [str(model.tag.version) for model in ModelStore(home / "models").list("m")]
    except bentoml.exceptions.NotFound:
        return []


def _readers(home: Path, processes: list[subprocess.Popen[str]]) -> Iterator[str]:
    """Read ``latest`` until all processes have ended."""
    while any(process.poll() is None for process in processes):
        path = home / "models" / "m" / "latest"
        if path.exists():
            yield path.read_text()
        time.sleep(0.002)


def test_of_fifteen_trainings_at_once_each_registers_its_model(home: Path, table: Path) -> None:
    processes = [_start(home, table) for _ in range(AT_ONCE)]
    read = set(_readers(home, processes))
    ended = [_ended(process) for process in processes]
    assert [code for code, _, _ in ended] == [0] * AT_ONCE, ended
    versions = _versions(home)
    assert len(versions) == AT_ONCE
    for _, out, _ in ended:
        assert sum(f"m:{version}" in "".join(out.split()) for version in versions) == 1
    # A reader never saw a part of it, nor a version that was not there.
    assert read <= set(versions)
    assert (home / "models" / "m" / "latest").read_text() in versions
    assert not list(home.glob("saving-*"))


KILL = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
HALF_COPIED = f"""
import shutil, pathlib
def copytree(source, target, **_):
    (pathlib.Path(target) / "model.yaml").write_text("half")
    {KILL}
shutil.copytree = copytree
"""
BEFORE_THE_RENAME = f"""
from churn_serving.learning import registration
def publish(*_):
    {KILL}
registration._publish = publish
"""
BEFORE_IT_IS_THE_LATEST = f"""
from churn_serving.learning import registration
def replace_file(*_):
    {KILL}
registration.replace_file = replace_file
"""


@pytest.mark.parametrize(
    ("code", "is_there"),
    [(HALF_COPIED, 0), (BEFORE_THE_RENAME, 0), (BEFORE_IT_IS_THE_LATEST, 1)],
    ids=["half copied", "before the rename", "before it is the latest"],
)
def test_a_save_that_is_killed_blocks_nobody(
    code: str, is_there: int, home: Path, table: Path
) -> None:
    assert _ended(_start(home, table, code))[0] == -signal.SIGKILL
    versions = _versions(home)
    assert len(versions) == is_there
    store = ModelStore(home / "models")
    assert [str(model.tag.version) for model in store.list()] == versions
    if is_there:
        assert store.get("m:latest").tag.version == versions[0]
    left = list(home.glob("saving-*"))
    assert len(left) == 1 - is_there
    for folder in left:
        an_hour_ago = time.time() - 3700
        os.utime(folder, (an_hour_ago, an_hour_ago))
    assert _ended(_start(home, table))[0] == 0
    assert len(_versions(home)) == is_there + 1
    assert store.get("m").tag.version in set(_versions(home)) - set(versions)
    assert not list(home.glob("saving-*"))


def test_sigterm_in_mid_save_leaves_the_store_as_it_was(home: Path, table: Path) -> None:
    wait: Any = f"""
import shutil, time
def copytree(*_, **__):
    print("saving", flush=True)
    time.sleep({PATIENCE})
shutil.copytree = copytree
"""
    process = _start(home, table, wait)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "saving\n":
            break
    process.terminate()
    code, _, err = _ended(process)
    assert (code, " ".join(err.split())) == (143, "Terminated. No model was registered.")
    assert _versions(home) == []
    assert not list(home.glob("saving-*"))
