"""One way to score a table, in a process of its own: ``python -m bench.bulk.measure WAY ...``.

It prints what it took as JSON. ``prepare`` writes the table and registers the models.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from churn_serving.bulk.engine import Wanted, make_engine
from churn_serving.bulk.local import Job, score
from churn_serving.bulk.rowgroups import BATCH_ROWS
from churn_serving.bulk.tables import batches, open_table
from churn_serving.bulk.work import Work
from churn_serving.features.columns import CATEGORIES, COLUMN_NAMES
from churn_serving.fields import FIELDS
from churn_serving.model.artifact import load_artifact
from churn_serving.model.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WAYS", "estimator_of", "make_job", "name_of", "prepare"]

FILES: Final = 8
_ROW_GROUP: Final = 125_000
_ESTIMATOR: Final = "estimator.joblib"
_KINDS: Final = {"whole": np.int64, "number": np.float64, "flag": np.bool_}


def prepare(folder: Path, rows: int, models: list[str]) -> None:
    """Write a table of so many customers, drawn from the public one, and register the models."""
    # Imported late: what is measured needs neither.
    import joblib  # noqa: PLC0415 - see above

    from bench.kinds.register import load_dataset, register  # noqa: PLC0415 - see above

    dataset = load_dataset()
    random = np.random.default_rng(0)
    table = folder / "table"
    table.mkdir()
    each = rows // FILES
    for number in range(FILES):
        X = dataset.X[random.integers(0, dataset.rows, each)]
        ids = [f"{number:02d}{place:08d}" for place in range(each)]
        pq.write_table(
            pa.table({"customer_id": ids, **_fields(X)}),
            table / f"{number:02d}.parquet",
            row_group_size=_ROW_GROUP,
        )
    for kind in models:
        registered = register(kind, name_of(kind))
        assert registered is not None  # noqa: S101 - both kinds can be compiled
        joblib.dump(registered[1].whole, estimator_of(folder, kind))


def estimator_of(folder: Path, kind: str) -> Path:
    """Return the file of scikit-learn's pipeline."""
    return folder / f"{name_of(kind)}-{_ESTIMATOR}"


def name_of(kind: str) -> str:
    """Return the name of a kind of model in the store."""
    return kind.replace("_", "-")


def _fields(X: Any) -> dict[str, Any]:  # noqa: ANN401 - a feature matrix
    columns = dict(zip(COLUMN_NAMES, X.T, strict=True))
    made = {}
    for name, field in FIELDS.items():
        if name in CATEGORIES:
            flags = [columns[f"{name}={value}"] for value in field.values]
            made[name] = np.array(field.values, object)[np.argmax(flags, axis=0)]
        else:
            made[name] = columns[name].astype(_KINDS[field.kind])
    return made


def make_job(folder: Path, kind: str, reasons: int) -> Job:
    """Return the work that the table is for a kind of model."""
    artifact = load_artifact(name_of(kind))
    table = open_table(str(folder / "table"))
    wanted = Wanted(reasons=reasons)
    engine = make_engine(artifact, Policy(), table.schema, wanted)
    output = folder / f"output-{os.getpid()}"
    return Job(table=table, engine=engine, wanted=wanted, model=artifact, output=output)


def _moved(folder: Path, kind: str) -> Callable[[], int]:
    """Read the columns and write the result, and do nothing in between."""
    job = make_job(folder, kind, 0)
    # What is written is a real result, always the same one: made-up figures would cost less.
    first: Any = next(batches(job.table.pieces[0], job.engine)).content
    made = job.engine.score(first).scored
    schema = made.schema
    coded = [field.name for field in schema if pa.types.is_dictionary(field.type)]

    def move() -> int:
        rows = 0
        for piece in job.table.pieces:
            path = folder / f"moved-{os.getpid()}.parquet"
            with pq.ParquetWriter(path, schema, use_dictionary=coded) as writer:
                for batch in batches(piece, job.engine):
                    content: Any = batch.content
                    columns = made.slice(0, content.num_rows).columns[1:]
                    ids = content.column("customer_id")
                    writer.write_batch(pa.record_batch([ids, *columns], schema=schema))
                    rows += content.num_rows
        return rows

    return move


def _ours(folder: Path, kind: str, reasons: int = 0) -> Callable[[], int]:
    """Score with this project in this process, all that a worker does."""
    job = make_job(folder, kind, reasons)
    # Arrow imports pandas at its first array, where it is installed: that is no part of a row.
    job.engine.score(next(batches(job.table.pieces[0], job.engine)).content)

    def work() -> int:
        with job.run.opened():
            doing = Work(job.engine, job.run, job.table.schema)
            return sum(doing.do(piece, lambda _: None)["scored"] for piece in job.table.pieces)

    return work


def _sklearn(folder: Path, kind: str) -> Callable[[], int]:
    """Score with scikit-learn over pandas, as notebooks do."""
    import joblib  # noqa: PLC0415 - our own ways need it not
    import pandas as pd  # noqa: PLC0415 - likewise

    estimator = joblib.load(estimator_of(folder, kind))

    def work() -> int:
        rows = 0
        for path in sorted((folder / "table").iterdir()):
            frame = pd.read_parquet(path)
            columns = {
                column: frame[column]
                if column in frame
                else frame[column.partition("=")[0]] == column.partition("=")[2]
                for column in COLUMN_NAMES
            }
            X = pd.DataFrame(columns).to_numpy(np.float64)
            p = estimator.predict_proba(X)[:, 1]
            result = pd.DataFrame({"customer_id": frame["customer_id"], "churn_probability": p})
            result.to_parquet(folder / f"sklearn-{os.getpid()}.parquet")
            rows += len(result)
        return rows

    return work


def _processes(folder: Path, kind: str, workers: int) -> dict[str, float]:
    """Score with so many processes; the time from the first batch on, when all have started."""
    job = make_job(folder, kind, 0)
    first: tuple[float, int] | None = None
    done = 0

    def told(rows: int) -> None:
        nonlocal first, done
        done += rows
        if rows and first is None and done >= workers * BATCH_ROWS:
            first = perf_counter(), done

    score(job, workers=workers, max_reject_rate=0, told=told)
    assert first is not None  # noqa: S101 - there were rows
    start, before = first
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"seconds": (perf_counter() - start) / (done - before), "megabytes": peak}


def _timed(work: Callable[[], int]) -> dict[str, float]:
    """Return the processor's seconds for each row, and the peak of memory."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    rows = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds / rows, "megabytes": after.ru_maxrss / 1024}


WAYS: Final[dict[str, Callable[[Path, str], dict[str, float]]]] = {
    "reading and writing only": lambda folder, kind: _timed(_moved(folder, kind)),
    "this project": lambda folder, kind: _timed(_ours(folder, kind)),
    "this project, three reasons": lambda folder, kind: _timed(_ours(folder, kind, 3)),
    "scikit-learn over pandas": lambda folder, kind: _timed(_sklearn(folder, kind)),
    "churn score, one process": lambda folder, kind: _processes(folder, kind, 1),
    "churn score, two processes": lambda folder, kind: _processes(folder, kind, 2),
}


def main(arguments: list[str]) -> None:
    """Run the command line."""
    way, folder, *rest = arguments
    if way == "prepare":
        prepare(Path(folder), int(rest[0]), rest[1:])
    else:
        json.dump(WAYS[way](Path(folder), rest[0]), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
