"""A whole table scored on one machine, by as many processes as are wanted.

What is done stays done: a run that was killed, interrupted, or out of space goes on where it
stopped, and one that is complete does nothing. Its parts do not depend on how often that happened.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from churn_serving import __version__
from churn_serving.bulk import crew
from churn_serving.bulk.delimited import PIECE_BYTES
from churn_serving.bulk.identities import count_repeated
from churn_serving.bulk.ranking import write_best
from churn_serving.bulk.rowgroups import BATCH_ROWS, PIECE_ROWS
from churn_serving.bulk.run import Run, run_id
from churn_serving.bulk.tables import batches, changed, check_fit
from churn_serving.bulk.work import Work
from churn_serving.errors import DataError
from churn_serving.model.policy import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from churn_serving.bulk.engine import Engine, Wanted
    from churn_serving.bulk.tables import Piece, Table
    from churn_serving.model.artifact import RegisteredModel

    DoAll: TypeAlias = Callable[
        [Work, Sequence[Piece], int, Callable[[int], None]], Iterable[dict[str, Any]]
    ]

__all__ = ["Finding", "Job", "Result", "Sample", "score", "try_out"]

_SAMPLE_ROWS: Final = 100_000
_MANY_REASONS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be scored, with what.

    Attributes:
        table: The customers.
        engine: Scores them.
        wanted: What is returned of them.
        model: Which one.
        output: The folder of all runs.
        top: So many of those whom to contact are listed, the highest expected profit first.
    """

    table: Table
    engine: Engine
    wanted: Wanted
    model: RegisteredModel
    output: Path
    top: int = 0

    @property
    def run(self) -> Run:
        """Where the results stand: the same for everything that would give the same results."""
        return Run(
            self.output,
            run_id(
                {
                    "code": __version__,
                    "cut": (PIECE_ROWS, PIECE_BYTES, BATCH_ROWS),
                    "inputs": [file.identity for file in self.table.files],
                    "model": self.model.sha256,
                    "policy": self.engine.policy.version,
                    "options": {**asdict(self.wanted), "top": self.top},
                }
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a run.

    Attributes:
        folder: Where it stands.
        manifest: What went in, what came out.
        was_complete: It was complete before, and nothing was done.
        kept: How many pieces were done by a run before, which was not completed.
        is_complete: Not more rows were refused than may be.
    """

    folder: Path
    manifest: dict[str, Any]
    was_complete: bool = False
    kept: int = 0
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with some rows: how many, and which one is the first."""

    reason: str
    rows: int
    file: str
    first: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What the first rows are like."""

    rows: int
    findings: list[Finding]


def score(
    job: Job,
    *,
    workers: int,
    max_reject_rate: float,
    told: Callable[[int], None],
    do_all: DoAll = crew.do_all,
) -> Result:
    """Score the table of a job, or what is left of it.

    Args:
        job: What is to be done.
        workers: By so many processes.
        max_reject_rate: A run with a larger share of refused rows is not complete.
        told: Told how many rows more are done.
        do_all: Who does the pieces: processes of this machine, or executors of Spark.

    Raises:
        DataError: The table or the output cannot be used; the text says why. What is done stays.
        OSError: The results cannot be written. What is done stays.
    """
    run = job.run
    if (result := _complete(run)) is not None:
        return result
    check_fit(job.table, job.engine)
    _require_apart(job)
    with run.opened():
        if (result := _complete(run)) is not None:  # by another command, meanwhile
            return result
        receipts = {piece.number: run.receipt(piece) for piece in job.table.pieces}
        known = [receipt for receipt in receipts.values() if receipt is not None]
        left = [piece for piece in job.table.pieces if receipts[piece.number] is None]
        told(sum(receipt["rows"] for receipt in known))
        work = Work(job.engine, run, job.table.schema)
        try:
            done = [*known, *do_all(work, left, workers, told)]
            done.sort(key=itemgetter("piece"))  # sums depend on the order, a little
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(
                f"{job.output} cannot be written: {reason.rstrip('.')}. What is done stays; the "
                "same command goes on where it stopped."
            ) from error
        finally:
            run.clean()
        if (name := changed(job.table.files)) is not None:
            raise DataError(
                f"{name} was changed during the run: run the command again, for the new table."
            )
        manifest = _manifest(job, run, done)
        rows = manifest["rows"]
        fits = rows["rejected"] <= max_reject_rate * rows["in"]
        if fits and job.top:
            manifest["top"] = write_best(run, job.table.pieces, job.top)
        run.tell(manifest)
        if fits:
            run.complete()
    return Result(folder=run.folder, manifest=manifest, kept=len(known), is_complete=fits)


def _complete(run: Run) -> Result | None:
    if not run.is_complete:
        return None
    return Result(folder=run.folder, manifest=run.manifest, was_complete=True)


def _require_apart(job: Job) -> None:
    """Refuse results as a table: a pattern may find those of the run before."""
    output = Path(os.path.realpath(job.output))
    for file in job.table.files:
        if file.path.is_relative_to(output):
            raise DataError(f"{file.name} is in the folder of the results: name another one.")


def try_out(table: Table, engine: Engine) -> Sample:
    """Look at the first rows of a table, and write nothing.

    Raises:
        DataError: The table cannot be read.
    """
    check_fit(table, engine)
    findings: dict[str, Finding] = {}
    rows = 0
    for piece in table.pieces:
        for batch in batches(piece, engine):
            rows += len(batch.rows)
            for reason, row in _refused(engine, batch):
                before = findings.get(reason)
                findings[reason] = Finding(
                    reason,
                    before.rows + 1 if before else 1,
                    before.file if before else piece.file.name,
                    before.first if before else row,
                )
            if rows >= _SAMPLE_ROWS:
                break
        if rows >= _SAMPLE_ROWS:
            break
    return Sample(rows, list(findings.values()))


def _refused(engine: Engine, batch: Any) -> Iterable[tuple[str, int]]:  # noqa: ANN401 - see tables
    if batch.content is None:
        return zip(batch.problems, batch.rows.tolist(), strict=True)
    outcome = engine.score(batch.content)
    reasons = outcome.rejected.column("reason").to_pylist()
    return zip(reasons, batch.rows[outcome.rows].tolist(), strict=True)


def _manifest(job: Job, run: Run, receipts: list[dict[str, Any]]) -> dict[str, Any]:
    """Say what went in, what came out; that nothing was lost in between."""
    reasons: Counter[str] = Counter()
    actions: Counter[str] = Counter()
    for receipt in receipts:
        reasons.update(receipt["reasons"])
        actions.update(receipt["actions"])
    rows = {
        "in": job.table.rows,
        "scored": sum(receipt["scored"] for receipt in receipts),
        "rejected": sum(receipt["rejected"] for receipt in receipts),
    }
    if rows["in"] != rows["scored"] + rows["rejected"]:
        raise DataError(f"The run does not add up: {rows}; its folder is {run.folder}.")
    engine = job.engine
    return {
        "scored_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": __version__,
        "inputs": [{"name": file.name, **file.identity} for file in job.table.files],
        "model": {"tag": job.model.tag, "sha256": job.model.sha256, "threshold": engine.threshold},
        "policy": {**engine.policy.figures, "version": engine.policy.version},
        "options": {**asdict(job.wanted), "keep": list(job.wanted.keep), "top": job.top},
        "rows": rows,
        "repeated_ids": count_repeated(run.ids(piece) for piece in job.table.pieces),
        "actions": {name: actions[name] for name in ACTIONS},
        "expected_profit": sum(receipt["expected_profit"] for receipt in receipts),
        "rejected": dict(reasons.most_common(_MANY_REASONS)),
        "parts": sorted(name for receipt in receipts for name in receipt["parts"]),
    }
