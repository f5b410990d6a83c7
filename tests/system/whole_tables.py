"""What the tests of ``churn score`` have in common, on one machine and on Spark."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pyarrow.parquet as pq

from churn_serving.learning.candidates import CANDIDATES, SCALER, fit
from churn_serving.learning.dataset import load_dataset
from churn_serving.learning.registration import save_artifact
from tests.customer_tables import customers

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CHURN", "ROWS", "register", "write_table"]

CHURN: Final = [sys.executable, "-m", "churn_serving.cli", "score"]
ROWS: Final = 20_000


def register(name: str) -> str:
    """Register a logistic regression that knows its reasons; return its tag."""
    dataset = load_dataset()
    pipeline = fit(CANDIDATES[0], dataset.X, dataset.y, 0)
    return save_artifact(
        estimator=pipeline,
        scaler=pipeline[SCALER],
        threshold=0.3,
        measured={},
        name=name,
        background=dataset.X[:200],
    )


def write_table(folder: Path, files: int) -> Path:
    """Write a table of so many files, each with ``ROWS`` customers; return its folder."""
    dataset = load_dataset()
    for number in range(files):
        pq.write_table(customers(dataset, ROWS, seed=number), folder / f"{number:02d}.parquet")
    return folder
