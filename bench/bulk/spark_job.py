"""Score a table with Spark and this project, and print the seconds of each round as JSON.

python -m bench.bulk.spark_job HOW MODEL FOLDER CORES ROUNDS
"""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

from bench.bulk.measure import make_job, name_of
from churn_serving.bulk import local, spark
from churn_serving.bulk.executors import connected

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame

__all__ = ["HOW"]


def data_frame(model: str, folder: Path, cores: int, _: ExitStack) -> Callable[[], None]:
    """Score a DataFrame and write the results, all of them."""
    customers, results = _scored(model, folder, cores)
    rows = customers.count()

    def run() -> None:
        spark.write(results, str(folder / "scores-of-spark"), rows=rows)

    return run


def probability(model: str, folder: Path, cores: int, _: ExitStack) -> Callable[[], None]:
    """Score a DataFrame and write of the results what MLflow returns."""
    results = _scored(model, folder, cores)[1].select("customer_id", "churn_probability")

    def run() -> None:
        results.write.mode("overwrite").parquet(str(folder / "probabilities-of-spark"))

    return run


def _scored(model: str, folder: Path, cores: int) -> tuple[DataFrame, DataFrame]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*pandas", FutureWarning)
        from pyspark.sql import SparkSession  # noqa: PLC0415 - see churn_serving.bulk.executors

    session = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.ui.enabled", "false")
        .config("spark.log.level", "ERROR")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "65536")
        .getOrCreate()
    )
    customers = session.read.parquet(str(folder / "table"))
    return customers, spark.score(customers, name_of(model))


def command(model: str, folder: Path, cores: int, stack: ExitStack) -> Callable[[], None]:
    """Do what ``churn score --engine spark`` does."""
    executors = stack.enter_context(connected(f"local[{cores}]"))
    output = folder / "output-spark"
    job = replace(make_job(folder, model, 0), output=output)

    def run() -> None:
        shutil.rmtree(output, ignore_errors=True)
        local.score(
            job,
            workers=cores,
            max_reject_rate=0,
            told=lambda _: None,
            do_all=executors.do_all,
        )

    return run


HOW: Final = {"probability": probability, "data-frame": data_frame, "command": command}


def main(how: str, model: str, folder: str, cores: str, rounds: str) -> None:
    """Run the command line."""
    seconds = []
    with ExitStack() as stack:
        run = HOW[how](model, Path(folder), int(cores), stack)
        for _ in range(int(rounds)):
            start = perf_counter()
            run()
            seconds.append(perf_counter() - start)
    json.dump(seconds, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
