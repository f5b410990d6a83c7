"""Score a whole table, Parquet to Parquet, and let others score the same one.

A table of customers drawn from the public one is scored in each way, with each model, in a process
of its own on one core, in turn. Beside this project: reading the same columns and writing a result
without scoring, and scikit-learn over pandas. Then the command with one process and with two.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape

from bench.bulk.measure import WAYS
from bench.bulk.process import run
from bench.bulk.report import console, options_of, report
from bench.errors import BenchmarkError
from bench.harness.targets import Outcome
from bench.kinds import LOGISTIC, MODELS, TREE
from bench.process import SERVER_CPU, pinned
from bench.tables import Table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

SPARK: Final = "spark"
FAILED: Final = 1
MEMORY_MB: Final = 300

MOVING, OURS, REASONS, PANDAS, ONE, TWO = WAYS
_SHARED: Final = (ONE, TWO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    if arguments and arguments[0] == SPARK:
        # Imported late: whoever measures one machine need not have it.
        from bench.bulk.spark import main as spark  # noqa: PLC0415

        return spark(arguments[1:])
    options = options_of(arguments, prog="make bench ARGS=bulk", about=__doc__)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-bulk-", dir=options.scratch) as folder:
            measured = _measured(Path(folder), options)
    except BenchmarkError as error:
        console.print(f"[red]error:[/red] {escape(str(error))}")
        return FAILED
    report(
        "bulk",
        options,
        titles=("Whole tables", _introduction(options)),
        bold="this project",
        measured=measured,
        tables=[_table(measured, model) for model in MODELS],
        held=list(_outcomes(measured)),
    )
    return 0


def _measured(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the median microseconds a row and megabytes of each way with each model."""
    with console.status(f"Writing {options.rows:,} customers and training the models"):
        _run(folder, "prepare", str(options.rows), *MODELS)
    found: dict[str, dict[str, list[dict[str, float]]]] = {
        model: {way: [] for way in WAYS} for model in MODELS
    }
    for number in range(options.rounds):
        for model in MODELS:
            # Who is first changes.
            for way in list(WAYS)[:: -1 if number % 2 else 1]:
                with (
                    console.status(f"Round {number + 1} of {options.rounds}: {model}, {way}"),
                    nullcontext() if way in _SHARED else pinned({SERVER_CPU}),
                ):
                    found[model][way].append(json.loads(_run(folder, way, model)))
                for left in [*folder.glob("output-*"), *folder.glob("*-*.parquet")]:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
    return {
        model: {
            way: {
                "us": statistics.median(one["seconds"] for one in each) * 1e6,
                "megabytes": max(one["megabytes"] for one in each),
                "rounds": each,
            }
            for way, each in ways.items()
        }
        for model, ways in found.items()
    }


def _run(folder: Path, way: str, *arguments: str) -> str:
    return run(folder, "bench.bulk.measure", way, str(folder), *arguments)


def _table(measured: dict[str, dict[str, Any]], model: str) -> Table:
    ways = measured[model]
    rows = [
        (way, f"{each['us']:.2f}", f"{1 / each['us']:.2f}", f"{each['megabytes']:,.0f}")
        for way, each in ways.items()
    ]
    columns = (model, "us a row", "M rows/s", "peak MB")
    return Table(f"Whole tables, {model}", columns, rows)


def _outcomes(measured: dict[str, dict[str, Any]]) -> Iterator[Outcome]:
    """Hold the figures against what was promised."""

    def ratio(model: str, one: str, other: str) -> float:
        us: float = measured[model][one]["us"] / measured[model][other]["us"]
        return us

    moving = ratio(LOGISTIC, OURS, MOVING)
    title = f"{LOGISTIC}: time over that of reading and writing only"
    yield Outcome(title, "at most 1.8x", f"{moving:.2f}x", moving <= 1.8)  # noqa: PLR2004 - the promise
    pandas = ratio(TREE, PANDAS, OURS)
    title = f"{TREE}: times faster than scikit-learn over pandas"
    yield Outcome(title, "at least 5x", f"{pandas:.1f}x", pandas >= 5)  # noqa: PLR2004 - the promise
    for model in MODELS:
        two = ratio(model, ONE, TWO)
        title = f"{model}: two processes, times faster than one"
        yield Outcome(title, "at least 1.8x", f"{two:.2f}x", two >= 1.8)  # noqa: PLR2004 - the promise
        reasons = ratio(model, REASONS, OURS)
        title = f"{model}: time with three reasons over that without"
        yield Outcome(title, "at most 3x", f"{reasons:.2f}x", reasons <= 3)  # noqa: PLR2004 - the promise
    peak = max(measured[model][way]["megabytes"] for model in MODELS for way in _SHARED)
    title = "Peak memory of a worker"
    yield Outcome(title, f"at most {MEMORY_MB} MB", f"{peak:,.0f} MB", peak <= MEMORY_MB)


def _introduction(options: argparse.Namespace) -> str:
    return (
        f"{options.rows:,} customers in 8 Parquet files, drawn from the public table, each with an "
        "id. Microseconds of a processor for each row, from the file to the written result, "
        f"without imports and without loading the model: medians of {options.rounds} rounds. "
        "`churn score` is timed by the clock, from the first batch on."
    )


if __name__ == "__main__":
    sys.exit(main())
