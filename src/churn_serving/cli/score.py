"""``churn score``: a whole table of customers, on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from churn_serving.cli.model import PUBLIC_KEY_VARIABLE, TAG_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TOO_MANY_REJECTED", "score_command"]

TOO_MANY_REJECTED: Final = 3
_POLICY_VARIABLE: Final = "CHURN_POLICY_FILE"
_MAX_REASONS: Final = 7
_FILE: Final = click.Path(path_type=Path)
_EPILOG: Final = """\b
Examples:
  churn score customers.parquet --output scores
  churn score exports/ --output scores --id account --keep region --top 500
  churn score 'exports/*.csv' --output scores --policy policy.toml --dry-run

\b
Exit codes:
  0    the run is complete, now or before
  1    it could not be done; what is done stays, and the same command goes on
  2    the command itself is wrong
  3    more rows were refused than --max-reject-rate allows
  130  interrupted; the same command goes on
"""


def _names(
    _context: click.Context, _parameter: click.Parameter, values: Sequence[str]
) -> tuple[str, ...]:
    names = [name.strip() for value in values for name in value.split(",")]
    if not all(names):
        raise click.BadParameter("expected names of columns")
    return tuple(dict.fromkeys(names))


def _share(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if value != value:  # noqa: PLR0124 - NaN is in every range
        raise click.BadParameter("expected a number from 0 to 1")
    return value


@click.command("score", epilog=_EPILOG)
@click.argument("table", metavar="INPUT")
@click.option("--output", required=True, type=_FILE, metavar="DIR", help="The folder of all runs.")
@click.option(
    "--model",
    "tag",
    envvar=TAG_VARIABLE,
    default="churn_classifier",
    metavar="TAG",
    help="name:version, or a name for its champion, or else its latest version.  "
    f"[default: {TAG_VARIABLE}, or churn_classifier]",
)
@click.option(
    "--policy",
    type=_FILE,
    envvar=_POLICY_VARIABLE,
    metavar="FILE",
    help=f"Costs and values that decide whom to contact.  [default: {_POLICY_VARIABLE}, or those "
    "of the service]",
)
@click.option(
    "--id", "id_column", metavar="COLUMN", help="Of the customer's id.  [default: customer_id]"
)
@click.option(
    "--keep",
    multiple=True,
    callback=_names,
    metavar="COLUMN,...",
    help="Further columns that are returned as they are; may be repeated.",
)
@click.option(
    "--reasons",
    type=click.IntRange(0, _MAX_REASONS),
    metavar="N",
    help="So many reasons of each customer.  [default: 3, where they take no long]",
)
@click.option(
    "--top",
    type=click.IntRange(0, 1_000_000),
    default=0,
    metavar="N",
    help="Also write top.csv: N customers to contact, the highest expected profit first.",
)
@click.option("--journal", is_flag=True, help="Also return the eight fields of each customer.")
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="So many processes.  [default: one for each CPU]",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "spark"]),
    default="local",
    show_default=True,
    help="What shares the work: processes of this machine, or executors of Spark, which must see "
    "the table and the output under the same paths.",
)
@click.option(
    "--master",
    default="local[*]",
    show_default=True,
    metavar="URL",
    help="Of the Spark cluster, as spark-submit has it.",
)
@click.option(
    "--max-reject-rate",
    type=click.FloatRange(0, 1),
    callback=_share,
    default=0.01,
    show_default=True,
    metavar="SHARE",
    help="The run is not complete if a larger share of the rows was refused.",
)
@click.option(
    "--dry-run", is_flag=True, help="Only say how the table is read and what is wrong at its start."
)
@click.option(
    "--public-key",
    type=_FILE,
    metavar="FILE",
    envvar=PUBLIC_KEY_VARIABLE,
    help=f"Check the model's signature with this key.  [default: {PUBLIC_KEY_VARIABLE}]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON, for programs.")
def score_command(**options: Any) -> int:  # noqa: ANN401 - click checked their types
    """Score a whole table of customers.

    INPUT is a Parquet or CSV file, a folder of them, or a pattern in quotes. It has the eight
    fields, or the columns of the raw Telco table, and a column of ids. A column customer_value
    says what each customer is worth; without it, or where it is empty, the policy does.

    The results stand in DIR/run=<id>: scored/, rejected/ with a reason for each refused row,
    _MANIFEST.json, and _SUCCESS when all of it is there. After a failure of any kind the same
    command goes on where it stopped. After success it does nothing.
    """
    # Before numpy is imported, here and in every worker: a process is one core, and a product of
    # matrices that several threads share may differ in its last bit.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from churn_serving.cli import scoring  # noqa: PLC0415 - --help must be quick

    return scoring.score_table(scoring.Order(**options))
