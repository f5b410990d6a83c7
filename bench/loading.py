"""Load a long training table, and let pandas read the same file: time and memory of each.

``python -m bench.loading`` writes a table of a million customers, drawn again from the public one,
and has each of the two read it in a process of its own, in turn. pandas only reads the cells as
text; training also checks every row by the schema's rules.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from bench.process import ROOT
from churn_serving.learning.dataset import _public_file, load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROWS: Final = 1_000_000
ROUNDS: Final = 5
READERS: Final[dict[str, Callable[[Path], object]]] = {
    "training": load_dataset,
    "pandas": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False),
}


def write_table(path: Path, rows: int, seed: int = 0) -> None:
    """Write a table of customers drawn from the public one, each with an id of its own."""
    random = np.random.default_rng(seed)
    public = pd.read_csv(_public_file(), dtype=str, keep_default_na=False)
    table = public.iloc[random.integers(0, len(public), rows)].reset_index(drop=True)
    table["customerID"] = [f"{number:09d}" for number in range(rows)]
    table.to_csv(path, index=False)


def read_once(reader: str, path: Path) -> None:
    """Read the table, and print what this process took as JSON."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    READERS[reader](path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    json.dump({"seconds": seconds, "megabytes": after.ru_maxrss / 1024}, sys.stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.loading", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--read", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.read:
        read_once(options.read[0], Path(options.read[1]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "customers.csv")
        print(f"Writing {options.rows:,} customers", flush=True)  # noqa: T201 - a command
        write_table(path, options.rows)
        found: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
        for number in range(options.rounds):
            # Who is first changes.
            for reader in sorted(READERS, reverse=bool(number % 2)):
                command = [sys.executable, "-m", "bench.loading", "--read", reader, str(path)]
                done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
                found[reader].append(json.loads(done.stdout))
        for reader, each in found.items():
            seconds = statistics.median(one["seconds"] for one in each)
            memory = statistics.median(one["megabytes"] for one in each)
            print(f"{reader:9} {seconds:6.2f} s CPU, {memory:6.0f} MB at most")  # noqa: T201 - likewise
        ratios = sorted(
            ours["seconds"] / theirs["seconds"]
            for ours, theirs in zip(found["training"], found["pandas"], strict=True)
        )
        print(  # noqa: T201 - likewise
            f"training takes {statistics.median(ratios):.2f} times the CPU time of pandas "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {options.rounds} rounds)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
