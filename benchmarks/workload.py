"""What every server is asked, and what scikit-learn says to it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.customers import batches, customers, write_bodies
from benchmarks.errors import BenchmarkError
from benchmarks.servers import BATCH, MODELS, PREDICT, PREDICT_V1, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.exports import Export
    from churn_serving.model.artifact import Artifact
    from churn_serving.schema import Customer

__all__ = ["Checked", "Workload", "make_workload"]

_SINGLES_CHECKED: Final = 10
_BATCHES_CHECKED: Final = 2


@dataclass(frozen=True, slots=True)
class Checked:
    """Some requests and the churn probabilities in the answer to each."""

    bodies: tuple[bytes, ...]
    expected: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """The model store, the requests, and the right answers.

    Attributes:
        home: The model store.
        exports: By model, for servers that have no model store.
        customers: Who is asked about.
        churn: By model, what scikit-learn says of each of them.
        bodies: The file of requests for each path.
        checked: By model and path.
        ready: A request for ``/predict``.
    """

    home: Path
    exports: Mapping[str, Export]
    customers: tuple[Customer, ...]
    churn: Mapping[str, tuple[float, ...]]
    bodies: Mapping[str, Path]
    checked: Mapping[tuple[str, str], Checked]
    ready: bytes


def make_workload(folder: Path) -> Workload:
    """Train and register the models in a store of their own, and write the requests.

    Raises:
        BenchmarkError: The training failed.
    """
    home = folder / "bentoml"
    for model, name in MODELS.items():
        _train(model, name, home)
    items = customers()
    grouped = batches(items)
    singles = write_bodies(folder / "customers.jsonl", items)
    many = write_bodies(folder / "batches.jsonl", grouped)
    bodies = {PREDICT: singles, PREDICT_V1: singles, BATCH: many}
    lines = {path: file.read_bytes().splitlines() for path, file in bodies.items()}

    # BentoML reads the variable when it is imported.
    os.environ["BENTOML_HOME"] = str(home)
    from benchmarks.exports import export  # noqa: PLC0415 - see above
    from churn_serving.features.rows import customer_row, feature_matrix  # noqa: PLC0415 - likewise
    from churn_serving.model.artifact import load_artifact  # noqa: PLC0415 - likewise

    exports = {}
    churn = {}
    checked = {}
    for model, name in MODELS.items():
        artifact = load_artifact(f"{name}:latest")
        exports[model] = export(artifact, folder / "exports" / model)

        def score(group: Sequence[Customer], artifact: Artifact = artifact) -> tuple[float, ...]:
            X = artifact.scaler.transform(feature_matrix(map(customer_row, group)))
            return tuple(artifact.estimator.predict_proba(X)[:, 1].tolist())

        churn[model] = score(items)
        for path in bodies:
            groups = (
                [batch.items for batch in grouped[:_BATCHES_CHECKED]]
                if path == BATCH
                else [[item] for item in items[:_SINGLES_CHECKED]]
            )
            expected = tuple(map(score, groups))
            checked[model, path] = Checked(tuple(lines[path][: len(groups)]), expected)
    return Workload(home, exports, tuple(items), churn, bodies, checked, lines[PREDICT][0])


def _train(model: str, name: str, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(
        [sys.executable, "train_and_save.py", "--model", model, "--name", name],
        cwd=ROOT,
        env={**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise BenchmarkError(f"Training failed:\n{result.stderr.strip()}")
