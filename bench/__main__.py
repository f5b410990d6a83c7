"""Measure this service beside other ways to serve the same model, on this machine.

Each server is started on one core, checked against scikit-learn, and driven from another core,
with each model in turn, for some rounds. Without names the usual servers are measured, which run
in the environment of the bench; a framework with an environment of its own (made once, under
build/bench) is measured when it is named, or with "all". What cannot be installed or started here
is listed with the reason. Tables, chart and every round are written to --output.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.markup import escape

from bench.errors import BenchmarkError
from bench.harness import chart, report, rest, soak
from bench.harness.commit import server_of_commit
from bench.harness.comparison import Absence, compare
from bench.harness.environment import install
from bench.harness.facts import facts, sentence
from bench.harness.stand import Bench
from bench.harness.visit import Plan
from bench.harness.workload import make_workload
from bench.kinds import KINDS, LOGISTIC, MODELS
from bench.process import CLIENT_CPU, pinned, require_cores, require_program
from bench.servers.empty import EMPTY
from bench.servers.ours import OURS
from bench.servers.registry import ALL, SERVERS, chosen
from bench.tables import markdown, print_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.servers.server import Server

BULK: Final = "bulk"
REST_ROUNDS: Final = 7
FAILED: Final = 1
INTERRUPTED: Final = 130  # what a shell reports for Ctrl-C

# Rich takes 80 columns where there is no terminal, too few for the tables.
console = Console(width=None if sys.stdout.isatty() else 180)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == [BULK]:
        # Imported late: whoever measures servers need not have Arrow.
        from bench.bulk.__main__ import main as bulk  # noqa: PLC0415

        return bulk(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        if not options.rest:
            require_program("wrk", "wrk")
        if not (options.rest or options.quick):
            require_program("h2load", "nghttp2-client")
        require_cores()
        (options.output / "logs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, pinned({CLIENT_CPU}):
            run = _rest if options.rest else _soak if options.soak else _compare
            return run(options, Path(folder))
    except BenchmarkError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]error:[/red] {escape(str(error))}")
        return FAILED
    except KeyboardInterrupt:
        Console(stderr=True).print("\nInterrupted.")
        return INTERRUPTED


def _compare(options: argparse.Namespace, folder: Path) -> int:
    absences: list[Absence] = []
    bench = _bench(options, _servers(options, folder), folder, absences)
    machine = facts()
    plan = Plan(
        options.rounds or (1 if options.quick else 3),
        options.seconds or (2 if options.quick else 3),
        options.rate,
        quick=options.quick,
    )
    with _telling() as tell:
        comparison = compare(bench, plan, absences, tell)
    tables = list(report.tables(comparison, plan))
    paragraphs = report.introduction(comparison, plan, facts=machine)
    print_tables(console, tables, bold=OURS.title)
    console.print(paragraphs[-1], highlight=False)
    output: Path = options.output
    _write_json(output / "bench.json", report.document(comparison, plan, facts=machine))
    picture = ""
    if rows := chart.panels(comparison):
        chart.draw(output / "bench.png", rows)
        picture = "![Each server's requests per second, CPU time and latency](bench.png)\n"
    text = "\n\n".join(["# Benchmark", *paragraphs, picture])
    (output / "bench.md").write_text(text + markdown(tables))
    console.print(f"Written to {output}: bench.json, bench.md, bench.png, logs", highlight=False)
    return FAILED if comparison.errors or comparison.absences else 0


def _rest(options: argparse.Namespace, folder: Path) -> int:
    options.servers = options.servers or [OURS.name, EMPTY.name]
    options.model = options.model or [LOGISTIC]
    absences: list[Absence] = []
    bench = _bench(options, _servers(options, folder), folder, absences)
    machine = facts()
    rounds = options.rounds or REST_ROUNDS
    with _telling() as tell:
        found = rest.rest(bench, rounds, absences, tell)
    tables = list(rest.tables(found))
    print_tables(console, tables, bold=OURS.title)
    output: Path = options.output
    _write_json(output / "rest.json", rest.document(found, machine))
    text = "\n\n".join(["# At rest", sentence(machine), rest.introduction(rounds)])
    (output / "rest.md").write_text(f"{text}\n{markdown(tables)}")
    console.print(f"Written to {output}: rest.json, rest.md, logs", highlight=False)
    return FAILED if found.absences else 0


def _soak(options: argparse.Namespace, folder: Path) -> int:
    absences: list[Absence] = []
    bench = _bench(options, chosen(options.servers or [OURS.name]), folder, absences)
    errors = len(absences)
    for stand in bench.stands():
        with _telling() as tell:
            result = soak.soak(stand, options.soak, tell)
        print_tables(console, [soak.table(result)])
        file = options.output / f"soak-{stand.name}.json"
        _write_json(file, {"facts": facts(), **asdict(result)})
        console.print(f"Written to {file}", highlight=False)
        errors += result.paced.errors
    return FAILED if errors else 0


def _servers(options: argparse.Namespace, folder: Path) -> list[Server]:
    """Return those that are asked for, and those of other commits."""
    servers = chosen(options.servers)
    if options.against and OURS not in servers:
        servers.insert(0, OURS)
    models = options.model or MODELS
    for number, commit in enumerate(options.against):
        with console.status(f"Training at {commit}"):
            other = server_of_commit(commit, folder / f"commit-{number}", models)
        servers.insert(1, other)
        if left_out := [model for model in models if model not in other.models]:
            told = f"{other.title} cannot serve {', '.join(left_out)}."
            console.print(told, highlight=False)
    return servers


def _bench(
    options: argparse.Namespace, servers: list[Server], folder: Path, absences: list[Absence]
) -> Bench:
    """Install the servers, note who cannot be, and train the models."""
    environments = {}
    for server in servers:
        with console.status(f"Installing {server.title}"):
            try:
                environments[server.name] = found = install(server)
            except BenchmarkError as error:
                absences.append(Absence(server.title, None, None, str(error)))
                told = f"[red]{server.title} is left out:[/red] {escape(str(error))}"
            else:
                told = f"{server.title}: {server.needs[0]} {found.version}, {found.size_mb:,.0f} MB"
        console.print(told, highlight=False)
    models = options.model or MODELS
    with console.status("Training the models"):
        workload = make_workload(folder, models)
    return Bench(servers, models, environments, workload, folder, options.output / "logs")


@contextmanager
def _telling() -> Iterator[Callable[[str], object]]:
    """Show what happens: in a line that changes, or in lines where there is no terminal."""
    with console.status("") as status:
        yield status.update if console.is_terminal else partial(console.print, highlight=False)


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2, default=str) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench",
        usage='make bench [SERVERS="NAME ..."] [ARGS="OPTION ..."], or: make bench ARGS="bulk ..."',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = [name for name, server in SERVERS.items() if server.usual]
    others = [name for name in SERVERS if name not in usual]
    parser.add_argument(
        "servers",
        nargs="*",
        metavar="SERVERS",
        help=f"the usual ones: {', '.join(usual)}; the others: {', '.join(others)}; or: {ALL}",
    )
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="COMMIT",
        help="beside our service, that of another commit of this project; may be repeated",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        choices=KINDS,
        metavar="MODEL",
        help="only this model; may be repeated; only ours and tuned FastAPI serve all of them "
        f"(default: {' and '.join(MODELS)}; the others: {', '.join(KINDS[len(MODELS) :])})",
    )
    parser.add_argument(
        "--rounds", type=_count, metavar="N", help=f"default: 3, quick: 1, at rest: {REST_ROUNDS}"
    )
    parser.add_argument(
        "--seconds", type=_count, metavar="N", help="for each load (default: 3, quick: 2)"
    )
    parser.add_argument(
        "--rate",
        type=_count,
        default=100,
        metavar="N",
        help="requests/s of the load that is the same for all (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only what most targets need, once: no fixed rate, no overload, no SIGTERM",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results", "bench"),
        metavar="FOLDER",
        help="default: %(default)s",
    )
    resting = parser.add_argument_group("at rest", "Instead, servers are started and not loaded.")
    resting.add_argument(
        "--rest",
        action="store_true",
        help=f"seconds to ready and memory, as multiples of an empty BentoML service "
        f"(default: the servers {OURS.name} and {EMPTY.name}, the model {LOGISTIC})",
    )
    soaking = parser.add_argument_group("soak", "Instead, one server after the other for longer.")
    soaking.add_argument(
        "--soak",
        type=float,
        default=0.0,
        metavar="MINUTES",
        help="at half of its saturation rate: latency, and whether memory grows",
    )
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("expected a whole number from 1")
    return count


if __name__ == "__main__":
    sys.exit(main())
