"""Commands as processes: how they end, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

import train_and_save
from churn_serving.learning.dataset import _public_file

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(train_and_save.__file__)


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def test_bad_data_ends_training_without_a_traceback(tmp_path: Path) -> None:
    table = pd.read_csv(_public_file(), dtype=str, keep_default_na=False).head(100)
    table.loc[4:30, "Contract"] = "Weekly"
    table.to_csv(tmp_path / "bad.csv", index=False)
    done = subprocess.run(
        [sys.executable, SCRIPT, "--data", tmp_path / "bad.csv"],
        env={**os.environ, "BENTOML_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error: Column 'Contract', rows 5, 6, 7, 8, 9 and 22 more" in _in_one_line(done.stderr)
    assert list(tmp_path.glob("models/*")) == []


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """What a shell runs in the background ignores Ctrl-C, and so would what it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_training_without_a_traceback(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", SCRIPT],
        env={**os.environ, "BENTOML_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert "7,043 rows" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, error = running.communicate(timeout=120)
    assert running.returncode == 130
    assert _in_one_line(error) == "Interrupted. No model was registered."
    assert list(tmp_path.glob("models/*")) == []


def test_no_log_line_is_lost_at_the_end_of_a_process() -> None:
    program = (
        "import logging\n"
        "from churn_serving.telemetry.log import configure_logging\n"
        "from churn_serving.settings import Settings\n"
        "configure_logging(Settings(log_format='json'))\n"
        "for number in range(1000): logging.getLogger('churn_serving').info('%d', number)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    messages = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    assert messages == [str(number) for number in range(1000)]
    assert done.stderr == ""
