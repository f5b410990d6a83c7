"""What is measured runs in processes of its own, which print what it took."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from bench.errors import BenchmarkError
from bench.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["run"]


def run(folder: Path, what: str, *arguments: str, python: Path | None = None) -> str:
    """Run a module of the bench, or a script in another environment; return what it prints.

    Args:
        folder: That of the models and tables.
        what: The module, or the file of the script.
        arguments: Its own.
        python: That of the other environment.

    Raises:
        BenchmarkError: It failed; the text is its last line.
    """
    done = subprocess.run(
        [str(python), what, *arguments] if python else [sys.executable, "-m", what, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            **({} if python else {"PYTHONPATH": str(ROOT / "src")}),
            "PYSPARK_PYTHON": str(python or sys.executable),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "BENTOML_HOME": str(folder / "store"),
            "BENTOML_DO_NOT_TRACK": "True",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": (folder / "runs").as_uri(),
            # A process is one core.
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise BenchmarkError(lines[-1] if lines else f"{what} ended with {done.returncode}")
    return done.stdout
