"""What every measurement of whole tables is asked, prints and writes."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from bench.harness.facts import facts, sentence
from bench.harness.targets import promises
from bench.tables import markdown, print_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.harness.targets import Outcome
    from bench.tables import Table

__all__ = ["console", "options_of", "report"]

ROWS: Final = 2_000_000
ROUNDS: Final = 3

# Rich takes 80 columns where there is no terminal, too few for the tables.
console = Console(width=None if sys.stdout.isatty() else 180)


def options_of(arguments: Sequence[str] | None, *, prog: str, about: str | None) -> Any:  # noqa: ANN401 - argparse's own
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog=prog, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument(
        "--scratch",
        type=Path,
        metavar="FOLDER",
        help="where the table and the results are written (default: that of temporary files)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results", "bench"),
        metavar="FOLDER",
        help="default: %(default)s",
    )
    return parser.parse_args(arguments)


def report(
    name: str,
    options: Any,  # noqa: ANN401 - argparse's own
    *,
    titles: tuple[str, str],
    bold: str,
    measured: Mapping[str, Any],
    tables: Sequence[Table],
    held: Sequence[Outcome],
) -> None:
    """Print the tables, and write them and the figures.

    Args:
        name: Of the files, without their endings.
        options: Of the command line.
        titles: That of the page, and what was done.
        bold: How the rows begin that are set off.
        measured: The figures.
        tables: The same, for people.
        held: The figures against what was promised.
    """
    shown = [*tables, *promises(held)]
    print_tables(console, shown, bold=bold)
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    machine = facts()
    document = {
        "facts": machine,
        "options": {"rows": options.rows, "rounds": options.rounds},
        "measured": measured,
        "targets": [asdict(outcome) for outcome in held],
    }
    (output / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    text = "\n\n".join([f"# {titles[0]}", sentence(machine), titles[1]])
    (output / f"{name}.md").write_text(f"{text}\n{markdown(shown)}")
    console.print(f"Written to {output}: {name}.json, {name}.md", highlight=False)
