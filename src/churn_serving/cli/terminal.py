"""What a command says: sentences and tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["TITLES", "facts", "note", "say", "say_json", "table"]

TITLES: Final = {"auc": "AUC", "log_loss": "log-loss", "brier": "Brier", "f1": "F1"}
"""What figures are called, in the order in which they are told."""

_WIDTH_OF_A_FILE: Final = 160
_GAP: Final = (0, 2, 0, 0)

# A table in a file is as wide as it needs to be.
_out: Final = Console(
    highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
)
_err: Final = Console(highlight=False, markup=False, stderr=True)


def say(sentence: str) -> None:
    """Print a sentence; a terminal wraps it, a file gets one line."""
    _out.print(sentence, soft_wrap=True)


def note(sentence: str) -> None:
    """Print what a person should know, apart from the command's result."""
    _err.print(Text.assemble(("note: ", "yellow"), sentence), soft_wrap=True)


def say_json(value: Any) -> None:  # noqa: ANN401 - anything that JSON knows
    """Print a value for a program."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, fold: str = "") -> None:
    """Print a table; only the cells of the column ``fold`` may take several lines."""
    drawn = Table(box=None, header_style="bold", padding=_GAP, pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold", no_wrap=column != fold)
    for row in rows:
        drawn.add_row(*map(Text, row))
    _out.print(drawn)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print what is known of one thing, a line for each fact."""
    drawn = Table(box=None, show_header=False, padding=_GAP, pad_edge=False)
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in pairs:
        drawn.add_row(name, Text(value))
    _out.print(drawn)
