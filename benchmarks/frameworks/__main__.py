"""Measure this service beside other ways to serve the same model, on this machine.

Each framework is installed into a virtual environment of its own (under build/frameworks, once),
started on one core, checked against scikit-learn, and driven from another core. What cannot be
installed or started here is reported with the reason.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.errors import BenchmarkError
from benchmarks.facts import facts
from benchmarks.frameworks.comparison import Absence, Comparison
from benchmarks.frameworks.environment import Environment, install
from benchmarks.frameworks.registry import FRAMEWORKS
from benchmarks.frameworks.report import print_comparison, write_json, write_markdown
from benchmarks.frameworks.trial import Trial, run_trial, steps
from benchmarks.load import require_wrk
from benchmarks.process import pinned, require_cores
from benchmarks.servers import CLIENT_CPU, MODELS, ROOT
from benchmarks.workload import make_workload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.frameworks.framework import Framework
    from benchmarks.workload import Workload

FAILED: Final = 1
INTERRUPTED: Final = 130  # what a shell reports for Ctrl-C

ENVIRONMENTS: Final = ROOT / "build" / "frameworks"

console = Console(width=None if sys.stdout.isatty() else 160)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := set(options.frameworks) - set(FRAMEWORKS):
        parser.error(f"no such framework: {', '.join(sorted(unknown))}")
    try:
        require_wrk()
        _require_h2load()
        require_cores()
        return _compare(options)
    except BenchmarkError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}")
        return FAILED
    except KeyboardInterrupt:
        Console(stderr=True).print("\nInterrupted.")
        return INTERRUPTED


def _compare(options: argparse.Namespace) -> int:
    # Imported late: nothing else needs it, and it takes a second.
    from benchmarks.frameworks.chart import write_chart  # noqa: PLC0415

    names = options.frameworks or [name for name, one in FRAMEWORKS.items() if not one.optional]
    models = options.model or list(MODELS)
    logs = options.output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    absences: list[Absence] = []
    environments = _install(names, absences)
    machine = {**facts(), "h2load": _h2load()}
    with tempfile.TemporaryDirectory(prefix="compare-") as folder, pinned({CLIENT_CPU}):
        with console.status("Training the models"):
            workload = make_workload(Path(folder))
        total = options.rounds * len(models) * len(environments) * steps
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        ) as bar:
            task = bar.add_task("", total=total)

            def progress(description: str) -> None:
                bar.update(task, description=description, advance=1)
                if not console.is_terminal:
                    console.print(description)

            trials = _run(
                environments,
                workload,
                options,
                models=models,
                folder=Path(folder),
                absences=absences,
                progress=progress,
            )
    comparison = Comparison(environments, tuple(trials), tuple(absences))
    print_comparison(console, comparison, rate=options.rate)
    used = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "rate": options.rate,
        "customers": len(workload.customers),
    }
    chart = "comparison.png"
    write_json(options.output / "comparison.json", comparison, facts=machine, options=used)
    write_markdown(
        options.output / "comparison.md", comparison, facts=machine, options=used, chart=chart
    )
    write_chart(options.output / chart, comparison)
    console.print(f"Written to {options.output}: comparison.json, comparison.md, {chart}, logs")
    measured = {trial.framework for trial in trials}
    # What was asked for by name has to be there.
    return FAILED if set(options.frameworks) - measured or not measured else 0


def _install(names: Sequence[str], absences: list[Absence]) -> dict[str, Environment]:
    environments = {}
    for name in names:
        framework = FRAMEWORKS[name]
        with console.status(f"Installing {framework.title}"):
            try:
                environments[name] = install(framework, ENVIRONMENTS / _folder_name(framework))
            except BenchmarkError as error:
                absences.append(Absence(name, None, str(error), None))
                console.print(f"[red]{framework.title} is left out:[/red] {error}", highlight=False)
            else:
                found = environments[name]
                console.print(
                    f"{framework.title}: {framework.package} {found.version}, "
                    f"{found.size_mb:,.0f} MB",
                    highlight=False,
                )
    return environments


def _folder_name(framework: Framework) -> str:
    # Entries that differ in their settings only share an environment; ours has the root's lock.
    return framework.name if framework.folder == ROOT else framework.folder.name


def _run(
    environments: dict[str, Environment],
    workload: Workload,
    options: argparse.Namespace,
    *,
    models: Sequence[str],
    folder: Path,
    absences: list[Absence],
    progress: Callable[[str], None],
) -> list[Trial]:
    """Run every framework in turn, round after round, so that drift hits all alike."""
    trials = []
    for number in range(1, options.rounds + 1):
        for model in models:
            for name, environment in environments.items():
                own = folder / f"{number}-{model}-{name}"
                own.mkdir()
                try:
                    trials.append(
                        run_trial(
                            FRAMEWORKS[name],
                            environment,
                            workload,
                            model=model,
                            number=number,
                            seconds=options.seconds,
                            rate=options.rate,
                            folder=own,
                            log=options.output / "logs" / f"{name}-{model}.log",
                            progress=progress,
                        )
                    )
                except (BenchmarkError, OSError, subprocess.SubprocessError) as error:
                    absences.append(Absence(name, model, str(error), number))
                    console.print(f"[red]{name}, {model}:[/red] {error}", highlight=False)
                shutil.rmtree(own, ignore_errors=True)
    return trials


def _require_h2load() -> None:
    if shutil.which("h2load") is None:
        raise BenchmarkError(
            "The load generator h2load is missing; on Debian: apt install nghttp2-client"
        )


def _h2load() -> str:
    result = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False)
    return result.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.frameworks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "frameworks",
        nargs="*",
        metavar="NAME",
        help=f"only these (default: all; {', '.join(FRAMEWORKS)})",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        choices=tuple(MODELS),
        help="only this model (default: both)",
    )
    parser.add_argument(
        "--rounds", type=_count, default=3, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--seconds",
        type=_count,
        default=3,
        metavar="N",
        help="for each load (default: %(default)s)",
    )
    parser.add_argument(
        "--rate",
        type=_count,
        default=100,
        metavar="N",
        help="requests/s of the load that is the same for all (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results", "compare"),
        metavar="FOLDER",
        help="default: %(default)s",
    )
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("expected a whole number from 1")
    return count


if __name__ == "__main__":
    sys.exit(main())
