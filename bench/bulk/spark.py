"""Score a whole table with Spark, and let MLflow's ``spark_udf`` score the same one.

``make bench ARGS="bulk spark"``. Spark runs on two cores in one process (``local[2]``), and is
warm: the first rounds of each process are left out. Beside it, ``churn score`` with two processes.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.markup import escape

from bench.bulk.measure import estimator_of
from bench.bulk.process import run
from bench.bulk.report import console, options_of, report
from bench.errors import BenchmarkError
from bench.harness.environment import install
from bench.harness.targets import Outcome
from bench.kinds import MODELS
from bench.servers.server import Launch, Server
from bench.tables import Table
from churn_serving.features.columns import COLUMN_NAMES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

__all__ = ["main"]

# These start Python, load the model, and let Java compile what it runs often.
WARM_UP: Final = 2
CORES: Final = 2
FAILED: Final = 1

PROBABILITY = "Spark, this project: id and probability"
DATA_FRAME, COMMAND = "Spark, this project: all results", "Spark, this project: churn score"
MLFLOW, LOCAL = "Spark, MLflow's spark_udf", "churn score, two processes"
OURS: Final = {PROBABILITY: "probability", DATA_FRAME: "data-frame", COMMAND: "command"}

_HERE: Final = Path(__file__).parent / "spark_udf"
SPARK_UDF: Final = Server(
    name="spark_udf",
    title=MLFLOW,
    folder=_HERE,
    needs=("mlflow", "pyspark"),
    launch=lambda _: Launch(()),
    how='env_manager="local"',
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = options_of(arguments, prog='make bench ARGS="bulk spark"', about=__doc__)
    try:
        with console.status("Installing MLflow"):
            python = install(SPARK_UDF).python
        with tempfile.TemporaryDirectory(prefix="bench-spark-", dir=options.scratch) as folder:
            measured = _measured(Path(folder), python, options)
    except BenchmarkError as error:
        console.print(f"[red]error:[/red] {escape(str(error))}")
        return FAILED
    about = (
        f"{options.rows:,} customers in 8 Parquet files, drawn from the public table. Times by the "
        f"clock from files to files, with {CORES} cores, medians of {options.rounds} rounds after "
        f"{WARM_UP} that are left out. MLflow writes the id and the probability, and so does "
        "this project once; all results are the decision and the versions, too, by status."
    )
    report(
        "spark",
        options,
        titles=("Whole tables with Spark", about),
        bold="Spark, this project",
        measured=measured,
        tables=[_table(measured, model) for model in MODELS],
        held=list(_outcomes(measured)),
    )
    return 0


def _measured(
    folder: Path, python: Path, options: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """Return the seconds a row of each way with each model, in each round."""
    with console.status(f"Writing {options.rows:,} customers and training the models"):
        run(folder, "bench.bulk.measure", "prepare", str(folder), str(options.rows), *MODELS)
    (folder / "columns.json").write_text(json.dumps(COLUMN_NAMES))
    found: dict[str, dict[str, list[float]]] = {model: {} for model in MODELS}
    rounds = str(WARM_UP + options.rounds)
    for model, ways in found.items():
        for way, how in OURS.items():
            with console.status(f"{model}: {way}"):
                job = (how, model, str(folder), str(CORES), rounds)
                printed = run(folder, "bench.bulk.spark_job", *job)
            ways[way] = [each / options.rows for each in json.loads(printed)[WARM_UP:]]
        with console.status(f"{model}: {MLFLOW}"):
            job = (str(estimator_of(folder, model)), str(folder), model, str(CORES), rounds)
            printed = run(folder, str(_HERE / "job.py"), *job, python=python)
        ways[MLFLOW] = [each / options.rows for each in json.loads(printed)[WARM_UP:]]
        with console.status(f"{model}: {LOCAL}"):
            ways[LOCAL] = [
                json.loads(run(folder, "bench.bulk.measure", LOCAL, str(folder), model))["seconds"]
                for _ in range(options.rounds)
            ]
    return found


def _table(measured: dict[str, dict[str, list[float]]], model: str) -> Table:
    rows = [
        (way, f"{us:.2f}", f"{1 / us:.2f}")
        for way, each in measured[model].items()
        for us in [statistics.median(each) * 1e6]
    ]
    return Table(f"Whole tables, {model}", (model, "us a row", "M rows/s"), rows)


def _outcomes(measured: dict[str, dict[str, list[float]]]) -> Iterator[Outcome]:
    """Hold the figures against what was promised."""
    for model, ways in measured.items():
        median = {way: statistics.median(each) for way, each in ways.items()}
        faster = median[MLFLOW] / median[PROBABILITY]
        title = f"{model}: id and probability, times faster than spark_udf"
        yield Outcome(title, "at least 2.5x", f"{faster:.2f}x", faster >= 2.5)  # noqa: PLR2004 - the promise
        over = median[COMMAND] / median[LOCAL]
        title = f"{model}: churn score with Spark, time over that of two processes"
        yield Outcome(title, "at most 2x", f"{over:.2f}x", over <= 2)  # noqa: PLR2004 - the promise
