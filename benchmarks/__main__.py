"""Measure this service against its peers, or run it for minutes.

``compare`` (the default) starts each server in turn on one core, drives it with wrk from another,
and repeats that for some rounds; the medians, every round and a chart are written to --output.
``soak`` runs one server at half of its saturation rate and watches latency and memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.compare import compare, steps
from benchmarks.errors import BenchmarkError
from benchmarks.facts import facts
from benchmarks.load import require_wrk
from benchmarks.process import pinned, require_cores
from benchmarks.report import print_comparison, write_json, write_markdown
from benchmarks.servers import CLIENT_CPU, FAMILIES, MODELS, chosen
from benchmarks.soak import print_soak, soak, write_soak
from benchmarks.workload import make_workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.workload import Workload

FAILED: Final = 1
INTERRUPTED: Final = 130  # what a shell reports for Ctrl-C

_ROUNDS: Final = 3
_SECONDS: Final = 3
_QUICK_ROUNDS: Final = 1
_QUICK_SECONDS: Final = 2

# Rich takes 80 columns where there is no terminal, too few for the tables.
console = Console(width=None if sys.stdout.isatty() else 120)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        require_wrk()
        require_cores()
        options.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, pinned({CLIENT_CPU}):
            with console.status("Training the models"):
                workload = make_workload(Path(folder))
            return (_soak if options.mode == "soak" else _compare)(options, workload)
    except BenchmarkError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}")
        return FAILED
    except KeyboardInterrupt:
        Console(stderr=True).print("\nInterrupted.")
        return INTERRUPTED


def _compare(options: argparse.Namespace, workload: Workload) -> int:
    # Imported late: nothing else needs it, and it takes a second.
    from benchmarks.chart import write_chart  # noqa: PLC0415

    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    seconds = options.seconds or (_QUICK_SECONDS if options.quick else _SECONDS)
    servers = chosen(options.only, options.also, models=options.model, essential=options.quick)
    machine = facts()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as bar:
        task = bar.add_task("", total=steps(servers, rounds))

        def progress(description: str) -> None:
            bar.update(task, description=description, advance=1)
            if not console.is_terminal:
                console.print(description)

        comparison = compare(
            servers,
            workload,
            rounds=rounds,
            seconds=seconds,
            logs=_folder(options.output / "logs"),
            progress=progress,
        )
    print_comparison(console, comparison)
    used = {"rounds": rounds, "seconds": seconds, "quick": options.quick}
    chart = "benchmark.png"
    write_json(options.output / "benchmark.json", comparison, facts=machine, options=used)
    write_markdown(
        options.output / "benchmark.md", comparison, facts=machine, options=used, chart=chart
    )
    write_chart(options.output / chart, comparison)
    console.print(f"Written to {options.output}: benchmark.json, benchmark.md, {chart}, logs")
    return FAILED if comparison.errors else 0


def _soak(options: argparse.Namespace, workload: Workload) -> int:
    errors = 0
    for server in chosen(options.only or ["ours"], options.also, models=options.model):
        result = soak(
            server,
            workload,
            minutes=options.minutes,
            requests=options.requests,
            log=_folder(options.output / "logs") / f"soak-{server.name.replace('/', '-')}.log",
            status=console.status,
        )
        print_soak(console, result)
        name = f"soak-{server.name.replace('/', '-')}.json"
        write_soak(options.output / name, result, facts=facts())
        console.print(f"Written to {options.output / name}")
        errors += result.errors
    return FAILED if errors else 0


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mode", nargs="?", choices=("compare", "soak"), default="compare")
    parser.add_argument(
        "--rounds", type=_count, metavar="N", help=f"default: {_ROUNDS}, quick: {_QUICK_ROUNDS}"
    )
    parser.add_argument(
        "--seconds",
        type=_count,
        metavar="N",
        help=f"for each load (default: {_SECONDS}, quick: {_QUICK_SECONDS})",
    )
    parser.add_argument("--quick", action="store_true", help="only what the targets need, once")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=FAMILIES,
        metavar="NAME",
        help=f"this server; may be repeated ({', '.join(FAMILIES)})",
    )
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        choices=FAMILIES,
        metavar="NAME",
        help="beside the usual ones; split and two-workers are not among them",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        choices=tuple(MODELS),
        help="only this model (default: both)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results", "bench"),
        metavar="FOLDER",
        help="default: %(default)s",
    )
    soaking = parser.add_argument_group("soak")
    length = soaking.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        type=float,
        default=5.0,
        metavar="N",
        help="paced at half of the saturation rate (default: %(default)g)",
    )
    length.add_argument(
        "--requests", type=_count, metavar="N", help="instead: this many, as fast as it can"
    )
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("expected a whole number from 1")
    return count


if __name__ == "__main__":
    sys.exit(main())
