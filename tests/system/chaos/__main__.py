"""Break a real ``bentoml serve`` on purpose, and see what it does.

Each scenario injects one fault into a server of its own (in a model store of its own) and holds
what came back against strict criteria. The exit code is 1 if one of them failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.system.chaos.report import Report

FAILED: Final = 1
INTERRUPTED: Final = 130  # what a shell reports for Ctrl-C

_STYLES: Final = {"pass": "green", "FAIL": "bold red", "not run in full": "bold yellow"}

# Rich takes 80 columns where there is no terminal, too few for the table.
console = Console(width=None if sys.stdout.isatty() else 140)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            # Before BentoML is imported: it reads both when it is.
            os.environ["BENTOML_HOME"] = str(Path(folder, "store"))
            os.environ["BENTOML_DO_NOT_TRACK"] = "True"
            return _main(Path(folder), arguments)
    except KeyboardInterrupt:
        Console(stderr=True).print("\nInterrupted.")
        return INTERRUPTED


def _main(folder: Path, arguments: Sequence[str] | None) -> int:
    # Imported late: they import BentoML.
    from tests.system.chaos.scenarios import SCENARIOS

    options = _parser(SCENARIOS).parse_args(arguments)
    reports = _play(options.only or list(SCENARIOS), folder, quick=options.quick)
    _print(reports)
    if options.json:
        document = {
            name: {**asdict(report), "verdict": report.verdict} for name, report in reports.items()
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")
        console.print(f"Written to {options.json}")
    return FAILED if any(report.failures for report in reports.values()) else 0


def _play(names: Sequence[str], folder: Path, *, quick: bool) -> dict[str, Report]:
    from tests.system.chaos.model import register_models
    from tests.system.chaos.play import play

    reports = {}
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("registering the models")
        models = register_models()
        for name in names:
            folder.joinpath(name).mkdir()

            def say(what: str, name: str = name) -> None:
                progress.update(task, description=f"[bold]{name}[/bold]: {what}")

            say("starting")
            report = play(name, folder=folder / name, models=models, quick=quick, say=say)
            reports[name] = report
            style = _STYLES[report.verdict]
            progress.print(f"{name}: [{style}]{report.verdict}[/{style}] in {report.seconds:.0f} s")
    return reports


def _print(reports: Mapping[str, Report]) -> None:
    table = Table("fault", "done", "came back", "verdict", title="Chaos", title_justify="left")
    table.columns[0].no_wrap = table.columns[3].no_wrap = True
    for name, report in reports.items():
        complaints = [*report.failures, *(f"NOT RUN: {what}" for what in report.not_run)]
        style = _STYLES[report.verdict]
        table.add_row(
            name,
            report.done,
            "\n".join(filter(None, [report.came_back, *(f"- {what}" for what in complaints)])),
            f"[{style}]{report.verdict}[/{style}]",
            end_section=True,
        )
    console.print(table)


def _parser(scenarios: Mapping[str, object]) -> argparse.ArgumentParser:
    described = "\n".join(f"  {name:<14}{scenario.__doc__}" for name, scenario in scenarios.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.chaos",
        description=f"{__doc__}\nscenarios:\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="short forms, about 2 minutes in all")
    parser.add_argument(
        "--only", nargs="+", choices=scenarios, default=[], metavar="NAME", help="these scenarios"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
