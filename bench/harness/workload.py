"""What every server is asked, and what scikit-learn says to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic_core import to_json

from bench.errors import BenchmarkError
from bench.kinds import MODELS
from bench.load import CUSTOMERS
from bench.process import ROOT
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bench.servers.server import Route

__all__ = [
    "Asked",
    "Model",
    "Workload",
    "customers",
    "make_workload",
    "model_name",
    "register_models",
    "train_models",
]

SCORER: Final = "scorer.pkl"
PIPELINE: Final = "pipeline.pkl"
COUNT: Final = 100
BATCHES: Final = 20


@dataclass(frozen=True, slots=True)
class Model:
    """One registered model.

    Attributes:
        tag: In the model store.
        scorer: See ``bench.servers.server.Site``.
        pipeline: Likewise.
        churn: The probability of each customer, by the estimator's own ``predict_proba``.
    """

    tag: str
    scorer: Path
    pipeline: Path
    churn: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and the churn probabilities in the right answer."""

    body: bytes
    churn: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """The model store, the customers, and the right answers."""

    home: Path
    customers: tuple[Customer, ...]
    models: Mapping[str, Model]

    def requests(self, route: Route, model: str) -> list[Asked]:
        """Return requests of a route: one a customer, or batches, each in an order of its own."""
        step = 1 if route.size == 1 else COUNT // BATCHES
        churn = self.models[model].churn
        made = []
        for start in range(0, COUNT, step):
            group = [(start + offset) % COUNT for offset in range(route.size)]
            body = to_json(route.encode([self.customers[index] for index in group]))
            made.append(Asked(body, tuple(churn[index] for index in group)))
        return made


def customers() -> tuple[Customer, ...]:
    """Return those of the load test, one of four: a hundred rows of the public Telco table."""
    lines = CUSTOMERS.read_bytes().splitlines()
    return tuple(map(Customer.model_validate_json, lines[:: len(lines) // COUNT]))


def make_workload(folder: Path, models: Sequence[str]) -> Workload:
    """Train and register these models in a store of their own, and ask scikit-learn.

    Raises:
        BenchmarkError: The training failed.
    """
    home = folder / "bentoml"
    train_models(home, ROOT, models)
    exports = folder / "exports"
    exported = _run(ROOT, home, "-m", "bench.harness.export", str(exports), *models)
    said = json.loads(exported)
    made = {
        model: Model(
            told["tag"], exports / model / SCORER, exports / model / PIPELINE, tuple(told["churn"])
        )
        for model, told in said.items()
    }
    return Workload(home, customers(), made)


def train_models(home: Path, root: Path, models: Iterable[str]) -> None:
    """Let the checkout in ``root`` train and register those that its training script knows.

    Raises:
        BenchmarkError: The training failed.
    """
    home.mkdir(parents=True)
    for model in models:
        if model in MODELS:
            _run(root, home, "train_and_save.py", "--model", model, "--name", model_name(model))


def register_models(home: Path, root: Path, models: Iterable[str]) -> list[str]:
    """Let the checkout in ``root`` register models that its training script does not know.

    Returns:
        Those that it can serve.

    Raises:
        BenchmarkError: A registration failed.
    """
    return [
        model
        for model in models
        if json.loads(
            _run(
                *(ROOT, home, "-m", "bench.kinds.register", model, model_name(model)),
                package=root / "src",
            )
        )
    ]


def model_name(model: str) -> str:
    """Return the name of a model in the stores."""
    return f"churn_{model.replace('-', '_')}"


def _run(root: Path, home: Path, *arguments: str, package: Path | None = None) -> str:
    """Run Python in the checkout ``root`` with the store ``home``; return what it prints.

    Args:
        root: The checkout.
        home: The store.
        arguments: Of the interpreter.
        package: Where ``churn_serving`` is, if not in that checkout.
    """
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": str(package or root / "src"),
            "BENTOML_HOME": str(home),
            "BENTOML_DO_NOT_TRACK": "True",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise BenchmarkError(f"{' '.join(arguments[:3])} failed:\n{result.stderr.strip()}")
    return result.stdout
