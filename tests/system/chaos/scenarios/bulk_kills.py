"""A run over a whole table is killed, again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pyarrow.parquet as pq

from churn_serving.learning.candidates import CANDIDATES, SCALER, fit
from churn_serving.learning.dataset import load_dataset
from churn_serving.learning.registration import save_artifact
from tests.customer_tables import customers
from tests.system.chaos.report import ChaosError, Report

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.chaos.stage import Stage

__all__ = ["bulk_kills"]

FILES: Final = 80
ROWS: Final = 50_000
WORKERS: Final = 2
PATIENCE_SECONDS: Final = 120
MOST_PARTS: Final = 3
MOST_SECONDS: Final = 0.15


def bulk_kills(stage: Stage) -> Report:
    """kill -9 of churn score at random moments: the next one goes on, the bytes are the same."""
    report = Report()
    kills = 3 if stage.quick else 10
    chance = random.Random(0)  # noqa: S311 - no secret
    run = _Run(stage, ROWS // 10 if stage.quick else ROWS)
    stage.say("an undisturbed run")
    undisturbed = run.folder / "undisturbed"
    start = time.monotonic()
    run.finish(undisturbed)
    seconds = time.monotonic() - start
    disturbed = run.folder / "disturbed"
    kept = []
    for number in range(1, kills + 1):
        stage.say(f"kill {number} of {kills}")
        before = _parts(disturbed)
        with run.start(disturbed) as process:
            more = chance.randint(0, MOST_PARTS)
            while process.poll() is None and len(_parts(disturbed)) < len(before) + more:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, MOST_SECONDS))
            report.require(process.poll() is None, f"kill {number}: the run was over before it")
            # Of the first process alone, every other time: its workers have to see it themselves.
            if number % 2:
                process.kill()
            else:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        after = _parts(disturbed)
        report.require(before.items() <= after.items(), f"kill {number}: a finished part changed")
        kept.append(len(after))
    run.finish(disturbed)
    one, other = _content(undisturbed), _content(disturbed)
    report.require(one == other, "the results differ from those of an undisturbed run")
    left = [path.name for path in disturbed.rglob("*.tmp")]
    report.require(not left, f"something half is left: {left}")
    report.done = f"{kills} x kill -9 of churn score, {WORKERS} workers, {FILES} files"
    report.came_back = (
        f"parts done after each kill: {', '.join(map(str, kept))}; then all {len(one)}, the same "
        f"bytes as undisturbed ({seconds:.1f} s)"
    )
    report.figures = {"kept": kept, "seconds": round(seconds, 1)}
    return report


class _Run:
    """A table, a model, and the command."""

    def __init__(self, stage: Stage, rows: int) -> None:
        self.folder = stage.folder
        dataset = load_dataset()
        table = self.folder / "table"
        table.mkdir()
        for number in range(FILES):
            pq.write_table(customers(dataset, rows, seed=number), table / f"{number:02d}.parquet")
        pipeline = fit(CANDIDATES[0], dataset.X, dataset.y, 0)
        tag = save_artifact(
            estimator=pipeline, scaler=pipeline[SCALER], threshold=0.3, measured={}, name="bulk"
        )
        self._command = [sys.executable, "-m", "churn_serving.cli", "score", str(table)]
        self._command += ["--model", tag, "--workers", str(WORKERS), "--output"]

    def start(self, output: Path) -> subprocess.Popen[bytes]:
        """Start the command in a group of processes of its own."""
        return subprocess.Popen(
            [*self._command, str(output)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def finish(self, output: Path) -> None:
        """Run the command to its end; one that was killed may have left a worker for a moment."""
        done = subprocess.run(
            [*self._command, str(output)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ChaosError(f"churn score ended with {done.returncode}: {done.stderr[-300:]}")


def _parts(output: Path) -> dict[Path, int]:
    """Return the parts that are done, and when they were written."""
    receipts = output.glob("run=*/_receipts/*.json")
    parts = [r.parents[1] / "scored" / f"part-{r.stem}.parquet" for r in receipts]
    return {part: part.stat().st_mtime_ns for part in parts}


def _content(output: Path) -> dict[str, bytes]:
    """Return everything that a reader of the results sees."""
    (folder,) = output.glob("run=*")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith("_")
    }
