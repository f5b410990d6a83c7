"""``churn score`` as a process: what interrupts it, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from churn_serving.learning.dataset import _public_file
from tests.system.whole_tables import CHURN, ROWS, register, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = 12


@pytest.fixture(scope="module")
def model() -> str:
    return register("bulk")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table"), FILES)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """What a shell runs in the background ignores Ctrl-C, and so would what it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _score(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CHURN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def test_the_public_table_is_scored_by_one_command(model: str, tmp_path: Path) -> None:
    arguments = (_public_file(), "--output", tmp_path / "scores", "--model", model, "--top", 20)
    done = _score(*arguments, "--keep", "gender,Partner")
    assert done.returncode == 0, done.stderr
    assert "7,043" in done.stdout
    (folder,) = (tmp_path / "scores").iterdir()
    scored = pq.read_table(folder / "scored")
    assert scored.num_rows == 7043
    assert {"reason_3", "gender", "Partner"} <= set(scored.schema.names)
    assert len((folder / "top.csv").read_text().splitlines()) == 21
    again = _score(*arguments, "--keep", "gender,Partner", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["rows"]["in"] == 7043


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_leaves_nothing_half_and_the_same_command_goes_on(
    model: str, table: Path, tmp_path: Path
) -> None:
    output = tmp_path / "scores"
    command = [*CHURN, str(table), "--output", str(output), "--model", model, "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while process.poll() is None and not list(output.rglob("_receipts/*.json")):
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Interrupted" in errors
    assert not list(output.rglob("*.tmp"))
    kept = len(list(output.rglob("part-*")))
    assert 0 < kept < FILES
    done = _score(*command[len(CHURN) :])
    assert done.returncode == 0
    assert f"{kept:,} parts were there" in done.stdout
    assert pq.read_table(next(output.iterdir()) / "scored").num_rows == FILES * ROWS


def test_a_full_disk_is_told_in_a_sentence_and_the_same_command_goes_on(
    model: str, table: Path, tmp_path: Path
) -> None:
    """The disk is a small one in memory, in a namespace of its own: no right is needed for it."""
    output, copy = tmp_path / "disk" / "scores", tmp_path / "copy"
    output.parent.mkdir()
    score = f"{sys.executable} -m churn_serving.cli score {table} --output {output} --model {model}"
    script = f"""
        mount -t tmpfs -o size=2m tmpfs {output.parent}
        {score}; echo "first: $?"
        find {output} -name '*.tmp' | sed 's/^/half: /'
        find {output} -name 'part-*' | sed 's/^/kept: /'
        mount -o remount,size=100m {output.parent}
        {score}; echo "second: $?"
        cp -r {output} {copy}
    """
    unshare = shutil.which("unshare")
    assert unshare, "unshare is a part of util-linux"
    done = subprocess.run(
        [unshare, "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "first: 1" in done.stdout, done.stderr
    assert "half:" not in done.stdout
    assert 0 < done.stdout.count("kept:") < FILES
    assert "Traceback" not in done.stderr
    errors = _in_one_line(done.stderr)
    assert re.search(r"cannot be written: .*[Nn]o space left", errors), errors
    assert "goes on where it stopped" in errors
    assert "second: 0" in done.stdout, done.stderr
    assert pq.read_table(next(copy.iterdir()) / "scored").num_rows == FILES * ROWS


def test_too_many_refused_rows_have_an_exit_code_of_their_own(model: str, tmp_path: Path) -> None:
    text = _public_file().read_text().replace("Fiber optic", "Carrier pigeon")
    (tmp_path / "odd.csv").write_text(text)
    arguments = (tmp_path / "odd.csv", "--output", tmp_path / "scores", "--model", model)
    done = _score(*arguments)
    assert done.returncode == 3
    assert "InternetService: expected one of 'DSL', 'Fiber optic', 'No'" in _in_one_line(
        done.stdout
    )
    assert not list(tmp_path.rglob("_SUCCESS"))
    assert _score(*arguments, "--max-reject-rate", "0.5").returncode == 0


def test_an_output_inside_the_table_is_refused(model: str, table: Path) -> None:
    done = _score(table, "--output", table / "scores", "--model", model)
    assert done.returncode == 1
    assert "is in the folder of the table" in _in_one_line(done.stderr)


def test_a_try_says_what_the_table_is(model: str, table: Path, tmp_path: Path) -> None:
    done = _score(table, "--output", tmp_path / "scores", "--model", model, "--dry-run")
    assert done.returncode == 0
    assert f"{FILES * ROWS:,} rows in {FILES} Parquet files" in done.stdout
    assert not (tmp_path / "scores").exists()
