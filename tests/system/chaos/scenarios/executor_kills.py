"""An executor of Spark is killed while it scores a table."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import pyarrow.parquet as pq

from churn_serving.learning.candidates import CANDIDATES, SCALER, fit
from churn_serving.learning.dataset import load_dataset
from churn_serving.learning.registration import save_artifact
from tests.customer_tables import customers
from tests.system.chaos.report import ChaosError, Report
from tests.system.spark_cluster import Cluster, bare_python

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.system.chaos.stage import Stage

__all__ = ["executor_kills"]

FILES: Final = 60
ROWS: Final = 20_000
WORKERS: Final = 2
MOST_PARTS: Final = 20
PATIENCE_SECONDS: Final = 180


def executor_kills(stage: Stage) -> Report:
    """kill -9 of a Spark executor at random moments: the bytes are those of one machine."""
    report = Report()
    kills = 1 if stage.quick else 5
    chance = random.Random(0)  # noqa: S311 - no secret
    command = _command(stage.folder)
    stage.say("an undisturbed run on one machine")
    _finish(_start([*command, str(stage.folder / "undisturbed")], os.environ))
    expected = _content(stage.folder / "undisturbed")
    python = bare_python(stage.folder / "bare")
    kept = []
    with Cluster(stage.folder / "cluster", WORKERS) as cluster:
        environment = {**os.environ, **cluster.environment(python)}
        for number in range(1, kills + 1):
            stage.say(f"kill {number} of {kills}")
            output = stage.folder / f"disturbed-{number}"
            more = chance.randint(1, MOST_PARTS)
            running = _start(
                [*command, str(output), "--engine", "spark", "--master", cluster.master],
                environment,
            )
            while running.poll() is None and len(_receipts(output)) < more:
                time.sleep(0.001)
            cluster.kill_an_executor()
            done = len(_receipts(output))
            report.require(done < FILES, f"kill {number}: the run was over before it")
            _finish(running)
            same = _content(output) == expected
            report.require(same, f"kill {number}: the results differ from those of one machine")
            left = [path.name for path in output.rglob("*.tmp")]
            report.require(not left, f"kill {number}: something half is left: {left}")
            kept.append(done)
    report.done = f"{kills} x kill -9 of one of {WORKERS} executors, {FILES} files"
    report.came_back = (
        f"parts done at the kill: {', '.join(map(str, kept))}; then all {len(expected)}, the same "
        "bytes as without Spark"
    )
    report.figures = {"kept": kept}
    return report


def _command(folder: Path) -> list[str]:
    """Write a table, register a model, and return the command; the output comes last."""
    dataset = load_dataset()
    table = folder / "table"
    table.mkdir()
    for number in range(FILES):
        pq.write_table(customers(dataset, ROWS, seed=number), table / f"{number:02d}.parquet")
    pipeline = fit(CANDIDATES[0], dataset.X, dataset.y, 0)
    tag = save_artifact(
        estimator=pipeline, scaler=pipeline[SCALER], threshold=0.3, measured={}, name="executors"
    )
    command = [sys.executable, "-m", "churn_serving.cli", "score", str(table)]
    return [*command, "--model", tag, "--output"]


def _start(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(running: subprocess.Popen[str]) -> None:
    try:
        _, errors = running.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        running.kill()
        raise
    if running.returncode:
        raise ChaosError(f"churn score ended with {running.returncode}: {errors[-300:]}")


def _receipts(output: Path) -> list[Path]:
    return list(output.glob("run=*/_receipts/*.json"))


def _content(output: Path) -> dict[str, bytes]:
    """Return everything that a reader of the results sees."""
    (folder,) = output.glob("run=*")
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith("_")
    }
