"""Compare this project's scorer with each estimator's own predict_proba, without a server.

Each kind of model is fitted on the public Telco table, registered in a store of its own and loaded
as the service loads it. Its probabilities for 10,000 customers must be those of the estimator. Then
both are timed in one process, on one core, in turn: one row, 256 rows, 10,000 rows; and its reasons
beside shap's explainers, one customer at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.markup import escape

from bench.errors import BenchmarkError
from bench.harness.facts import facts, sentence
from bench.harness.targets import promises
from bench.kinds import KINDS
from bench.kinds.found import Found, introduction, outcomes, read, reasoned, table
from bench.kinds.reasons import reasons_table
from bench.process import ROOT, SERVER_CPU, pinned
from bench.tables import markdown, print_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED: Final = 1

# Rich takes 80 columns where there is no terminal, too few for the table.
console = Console(width=None if sys.stdout.isatty() else 180)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    found, missing = [], {}
    for kind in options.kind or KINDS:
        with console.status(f"Measuring {kind}"):
            try:
                found.append(_measured(kind, options))
            except BenchmarkError as error:
                missing[kind] = str(error)
                console.print(f"[red]{kind} is left out:[/red] {escape(str(error))}")
    held = outcomes(found)
    tables = [table(found), reasons_table(reasoned(found)), *promises(held)]
    print_tables(console, tables)
    machine = facts()
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    document = {
        "facts": machine,
        "options": {"pairs": options.pairs, "seconds": options.seconds},
        "kinds": [asdict(one) for one in found],
        "targets": [asdict(outcome) for outcome in held],
        "missing": missing,
    }
    (output / "kinds.json").write_text(json.dumps(document, indent=2) + "\n")
    text = "\n\n".join(["# Kinds of models", sentence(machine), introduction(options.pairs)])
    (output / "kinds.md").write_text(f"{text}\n{markdown(tables)}")
    console.print(f"Written to {output}: kinds.json, kinds.md", highlight=False)
    return FAILED if missing else 0


def _measured(kind: str, options: argparse.Namespace) -> Found:
    with tempfile.TemporaryDirectory(prefix="bench-kinds-") as home, pinned({SERVER_CPU}):
        result = subprocess.run(
            (
                *(sys.executable, "-m", "bench.kinds.measure"),
                *(kind, str(options.pairs), str(options.seconds)),
            ),
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT / "src"),
                "BENTOML_HOME": home,
                "BENTOML_DO_NOT_TRACK": "True",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        raise BenchmarkError(lines[-1] if lines else f"it ended with {result.returncode}")
    return read(result.stdout)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.kinds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        choices=KINDS,
        metavar="KIND",
        help=f"only this one; may be repeated (default: {', '.join(KINDS)})",
    )
    parser.add_argument(
        "--pairs",
        type=int,
        default=21,
        metavar="N",
        help="so often both are timed (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.05,
        metavar="N",
        help="about how long each timing lasts, at least one call (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results", "bench"),
        metavar="FOLDER",
        help="default: %(default)s",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
