"""What ``churn score`` does and says."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from churn_serving.bulk import crew
from churn_serving.bulk.engine import Wanted, make_engine
from churn_serving.bulk.local import Job, Result, score, try_out
from churn_serving.bulk.tables import Table, open_table
from churn_serving.cli.score import TOO_MANY_REJECTED
from churn_serving.cli.terminal import facts, note, say, say_json, table
from churn_serving.cpus import available_cpus
from churn_serving.errors import DataError, ModelPickledError
from churn_serving.model.artifact import Artifact, Trust, load_artifact
from churn_serving.model.policy import Policy, read_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from churn_serving.bulk.engine import Engine
    from churn_serving.bulk.local import DoAll

__all__ = ["Order", "score_table"]

_REASONS: Final = 3
_SAYS_EVERY_SECONDS: Final = 10
_SHOWN_REASONS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The options of the command, as it declares them."""

    table: str
    output: Path
    tag: str
    policy: Path | None
    id_column: str | None
    keep: tuple[str, ...]
    reasons: int | None
    top: int
    journal: bool
    workers: int | None
    engine: str
    master: str
    max_reject_rate: float
    dry_run: bool
    public_key: Path | None
    as_json: bool


def score_table(order: Order) -> int:
    """Score a table, and say what came of it; return the exit code.

    Raises:
        DataError: The table or the output cannot be used.
        ModelError: The model cannot be used.
        SettingsError: The policy or the key says nothing sensible.
        OSError: The results cannot be written.
    """
    _require_apart(order)
    policy = Policy() if order.policy is None else read_policy(order.policy)
    artifact = _load(order)
    found = open_table(order.table)
    wanted = Wanted(
        id=order.id_column,
        keep=order.keep,
        reasons=_reasons(order, artifact),
        journal=order.journal,
    )
    engine = make_engine(artifact, policy, found.schema, wanted)
    if order.dry_run:
        _tell_sample(found, engine, artifact)
        return 0
    job = Job(
        table=found,
        engine=engine,
        wanted=wanted,
        model=artifact,
        output=order.output.absolute(),  # the folder of an executor is another one
        top=order.top,
    )
    with _doing(order) as do_all, _progress(found.rows) as told:
        result = score(
            job,
            workers=order.workers or available_cpus(),
            max_reject_rate=order.max_reject_rate,
            told=told,
            do_all=do_all,
        )
    if order.as_json:
        say_json({"folder": str(result.folder), "complete": result.is_complete, **result.manifest})
    else:
        _tell(result)
    if result.is_complete:
        return 0
    note(
        f"more rows were refused than --max-reject-rate {order.max_reject_rate:g} allows, so the "
        f"run is not complete; {result.folder / 'rejected'} says why"
    )
    return TOO_MANY_REJECTED


@contextmanager
def _doing(order: Order) -> Iterator[DoAll]:
    """Yield who does the pieces of the table."""
    if order.engine == "local":
        yield crew.do_all
        return
    from churn_serving.bulk.executors import connected  # noqa: PLC0415 - only who has Spark

    with connected(order.master) as executors:
        yield executors.do_all


def _load(order: Order) -> Artifact:
    try:
        return load_artifact(order.tag, Trust.of(order.public_key, allow_pickle=False))
    except ModelPickledError:
        raise ModelPickledError(
            f"The model {order.tag} can only be run by unpickling it, which is not done for whole "
            "tables: name another one with --model, of a kind that can be compiled (see: churn "
            "model register --help)."
        ) from None


def _require_apart(order: Order) -> None:
    """Refuse an output that the next run would take for a part of the table."""
    place = Path(os.path.realpath(Path(order.table).expanduser()))
    output = Path(os.path.realpath(order.output))
    if place.is_dir() and output.is_relative_to(place):
        raise DataError(f"{order.output} is in the folder of the table: name another one.")


def _reasons(order: Order, artifact: Artifact) -> int:
    known = artifact.reasons
    if order.reasons is None:
        return _REASONS if known is not None and not known.slow else 0
    if order.reasons and known is None:
        note(f"the model {artifact.tag} gives no reasons")
    elif order.reasons and known is not None and known.slow:
        note("the reasons of this model take milliseconds a customer: --reasons 0 is much faster")
    return order.reasons if known is not None else 0


def _tell_sample(found: Table, engine: Engine, artifact: Artifact) -> None:
    sample = try_out(found, engine)
    names = engine.plan.names
    facts(
        [
            ("table", f"{found.rows:,} rows in {len(found.files):,} {found.files[0].kind} files"),
            ("read as", engine.plan.layout.title),
            ("customers by", engine.id),
            ("worth by", engine.value or "the policy"),
            ("columns", ", ".join(names[c] for c in engine.plan.roles if c in names)),
            ("model", artifact.tag),
            ("looked at", f"the first {sample.rows:,} rows"),
            ("refused", f"{sum(finding.rows for finding in sample.findings):,} of them"),
        ]
    )
    if sample.findings:
        say("")
        table(
            ("rows", "reason", "first in", "row"),
            (
                (f"{one.rows:,}", one.reason, one.file, f"{one.first:,}")
                for one in sorted(sample.findings, key=lambda one: -one.rows)[:_SHOWN_REASONS]
            ),
            fold="reason",
        )


def _tell(result: Result) -> None:
    manifest = result.manifest
    rows, actions = manifest["rows"], manifest["actions"]
    facts(
        [
            ("rows", f"{rows['in']:,}"),
            ("scored", f"{rows['scored']:,}"),
            ("refused", f"{rows['rejected']:,}"),
            ("ids that come again", f"{manifest['repeated_ids']:,}"),
            ("to contact", f"{actions['contact']:,}"),
            ("kept apart as control", f"{actions['control']:,}"),
            ("expected profit", f"{manifest['expected_profit']:,.2f}"),
            ("model", manifest["model"]["tag"]),
            ("policy", manifest["policy"]["version"]),
            ("results", str(result.folder)),
        ]
    )
    if manifest["rejected"]:
        say("")
        table(
            ("rows refused", "reason"),
            (
                (f"{number:,}", reason)
                for reason, number in list(manifest["rejected"].items())[:_SHOWN_REASONS]
            ),
            fold="reason",
        )
    if result.was_complete:
        say(f"This run was complete since {manifest['scored_at']}: nothing was done.")
    elif result.kept:
        say(f"{result.kept:,} parts were there from a run before, and were not done again.")


@contextmanager
def _progress(rows: int) -> Iterator[Callable[[int], None]]:
    """Show how far it is: in a line that changes, or now and then in lines of a log."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Told(rows)
        return
    with Progress(
        TextColumn("scoring"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
        _Rate("{task.speed}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task("", total=rows)
        yield lambda number: progress.advance(task, number)


class _Rate(TextColumn):
    """Rows a second."""

    def render(self, task: Any) -> Text:  # noqa: ANN401 - of rich
        return Text(f"{task.speed or 0:,.0f} rows/s")


class _Told:
    """Says how far it is where no terminal is."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._done = self._before = 0
        self._since = self._last = monotonic()

    def __call__(self, rows: int) -> None:
        self._done += rows
        now = monotonic()
        if self._last == self._since and not self._before:
            self._before = self._done - rows
        if now - self._last < _SAYS_EVERY_SECONDS:
            return
        self._last = now
        rate = (self._done - self._before) / (now - self._since)
        left = (self._rows - self._done) / rate if rate else 0
        print(  # noqa: T201 - a command
            f"{self._done:,} of {self._rows:,} rows, {rate:,.0f} rows/s, {left:,.0f} s left",
            file=sys.stderr,
            flush=True,
        )
