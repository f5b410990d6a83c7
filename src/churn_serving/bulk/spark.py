"""Spark moves the batches: a DataFrame of customers in, a DataFrame of results out.

    from churn_serving.bulk import spark
    results = spark.score(customers, "churn_classifier", reasons=3)

The model goes to the executors as bytes. They need numpy, pyarrow and this package, nothing else.
What they run is in this module, so it imports pyspark only where the driver needs it.
"""

from __future__ import annotations

import json
import pickle
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from churn_serving import __version__
from churn_serving.bulk.engine import Wanted, make_engine
from churn_serving.bulk.run import MANIFEST, REJECTED, SCORED, SUCCESS
from churn_serving.errors import DataError
from churn_serving.features.layouts import some_of
from churn_serving.model.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from churn_serving.bulk.columns import ArrowBatch, ArrowSchema
    from churn_serving.model.artifact import Artifact

__all__ = ["STATUS", "score", "write"]

STATUS: Final = "status"
"""The column that says what became of a row: ``scored`` or ``rejected``."""


def score(
    customers: DataFrame,
    model: Artifact | str,
    *,
    policy: Policy | None = None,
    reasons: int = 0,
    id: str | None = None,  # noqa: A002 - as the command's option
    keep: Sequence[str] = (),
) -> DataFrame:
    """Score a DataFrame: the same function as ``churn score`` and the service.

    Args:
        customers: The eight fields or the columns of the raw Telco table, and a column of ids.
        model: A registered model, or its tag.
        policy: Decides whom to contact; None: the default one.
        reasons: How many of each customer, 0 to 7.
        id: The column of the customer's id; None: ``customer_id``, however it is spelled.
        keep: Further columns, returned as they are.

    Returns:
        A row for each row. ``status`` says which are ``scored``; of those that are ``rejected``,
        ``field`` and ``reason`` say why, and the columns of results are null.

    Raises:
        DataError: The table lacks a column, has one twice, or one of another type than expected.
        ModelError: The model cannot be used.
    """
    from pyspark.sql.pandas.types import (  # noqa: PLC0415 - see above
        from_arrow_schema,
        to_arrow_schema,
    )

    # By their places: names may differ in their case only, or have dots in them.
    places = customers.toDF(*map(str, range(len(customers.columns))))
    zone = customers.sparkSession.conf.get("spark.sql.session.timeZone")
    kinds = to_arrow_schema(places.schema, timezone=zone)
    table = pa.schema(
        [kind.with_name(name) for kind, name in zip(kinds, customers.columns, strict=True)]
    )
    wanted = Wanted(id=id, keep=tuple(keep), reasons=reasons)
    engine = make_engine(_loaded(model), policy or Policy(), table, wanted)
    result = _result_schema(engine.scored_schema(table), engine.rejected_schema(table))
    columns = from_arrow_schema(result)
    content = pickle.dumps(engine)
    # Spark Connect has no context; there the content goes with the function.
    context = getattr(customers.sparkSession, "sparkContext", None)
    scoring = _Scoring(
        content if context is None else context.broadcast(content),
        engine.columns,
        to_arrow_schema(columns, timezone=zone),
    )
    read = places.select([str(table.names.index(name)) for name in engine.columns])
    with warnings.catch_warnings():
        # Spark asks for pandas here, warns of some versions, and then does not use it.
        warnings.filterwarnings("ignore", ".*pandas", FutureWarning)
        return read.mapInArrow(scoring, columns)


def write(
    results: DataFrame, place: str, *, rows: int, max_reject_rate: float = 0.01
) -> dict[str, int]:
    """Write what ``score`` returns as Parquet files, in a folder for each status.

    What a run before has written there is replaced. ``_MANIFEST.json`` and ``_SUCCESS`` are written
    when all of it is there; a run that failed leaves a folder without.

    Args:
        results: Of ``score``.
        place: A folder of any file system that Spark knows.
        rows: How many there were of customers.
        max_reject_rate: A run with a larger share of refused rows is not complete.

    Returns:
        The rows ``in``, ``scored`` and ``rejected``.

    Raises:
        DataError: The folder holds something else, rows were lost, or too many were refused.
    """
    session = results.sparkSession
    folder = _Folder(session, place)
    folder.require_results()
    folder.delete(SUCCESS)
    setting = "spark.sql.maxConcurrentOutputFileWriters"
    before = session.conf.get(setting)
    session.conf.set(setting, 2)  # one for each status, or Spark sorts the rows
    try:
        (
            results.write.mode("overwrite")
            .option("partitionOverwriteMode", "static")
            .option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
            .partitionBy(STATUS)
            .parquet(place)
        )
    finally:
        session.conf.set(setting, before)
    written = session.read.schema(results.schema).parquet(place).groupBy(STATUS).count().collect()
    counts = {SCORED: 0, REJECTED: 0} | {row[STATUS]: row["count"] for row in written}
    if rows != sum(counts.values()):
        raise DataError(f"The run does not add up: {rows} rows in, {counts} out; see {place}.")
    counts = {"in": rows, **counts}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    folder.write(MANIFEST, {"scored_at": now, "code": __version__, "rows": counts})
    if counts[REJECTED] > max_reject_rate * rows:
        raise DataError(
            f"{counts[REJECTED]:,} of {rows:,} rows were refused, more than max_reject_rate="
            f"{max_reject_rate:g} allows; {place}/{STATUS}={REJECTED} says why."
        )
    folder.write(SUCCESS, None)
    return counts


class _Folder:
    """A folder of any file system that Spark knows."""

    def __init__(self, session: SparkSession, place: str) -> None:
        context = session.sparkContext
        self._jvm: Any = context._jvm  # noqa: SLF001 - the only way to Hadoop's file systems
        self._path = self._jvm.org.apache.hadoop.fs.Path(place)
        self._files = self._path.getFileSystem(context._jsc.hadoopConfiguration())  # noqa: SLF001 - likewise

    def require_results(self) -> None:
        """Refuse a folder that holds anything but results: it would be lost."""
        if not self._files.exists(self._path):
            return
        names = [str(file.getPath().getName()) for file in self._files.listStatus(self._path)]
        others = [n for n in names if not n.startswith((f"{STATUS}=", "_", "."))]
        if others:
            raise DataError(
                f"{self._path} holds something else than results ({some_of(others)}): name another "
                "folder."
            )

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        self._files.delete(self._of(name), False)

    def write(self, name: str, content: Mapping[str, object] | None) -> None:
        """Write a file of JSON, or an empty one."""
        stream = self._files.create(self._of(name), True)
        stream.write(b"" if content is None else json.dumps(content, indent=1).encode())
        stream.close()

    def _of(self, name: str) -> Any:  # noqa: ANN401 - a class of Java
        return self._jvm.org.apache.hadoop.fs.Path(self._path, name)


def _loaded(model: Artifact | str) -> Artifact:
    if not isinstance(model, str):
        return model
    # An executor has no BentoML, whose store this reads.
    from churn_serving.model.artifact import load_artifact  # noqa: PLC0415

    return load_artifact(model)


def _result_schema(scored: ArrowSchema, rejected: ArrowSchema) -> ArrowSchema:
    """Return the columns of both; Spark knows no dictionaries."""
    fields = {field.name: field.type for schema in (scored, rejected) for field in schema}
    if len(fields) + 1 > len(set(fields) | {STATUS}) or len(fields) != len(scored) + 2:
        raise DataError(
            f"Cannot keep '{STATUS}', 'field' or 'reason': the result has columns of that name."
        )
    plain = {
        name: kind.value_type if pa.types.is_dictionary(kind) else kind
        for name, kind in fields.items()
    }
    return pa.schema([(STATUS, pa.string()), *plain.items()])


class _Scoring:
    """What an executor runs over the batches of a partition.

    Args:
        content: The engine, pickled; or Spark's broadcast of it.
        names: The columns of the batches.
        schema: Of the result.
    """

    def __init__(self, content: Any, names: Sequence[str], schema: ArrowSchema) -> None:  # noqa: ANN401 - a broadcast of Spark is generic
        self._content = content
        self._names = list(names)
        self._schema = schema

    def __call__(self, batches: Iterator[ArrowBatch]) -> Iterator[ArrowBatch]:
        content = self._content if isinstance(self._content, bytes) else self._content.value
        engine = pickle.loads(content)  # noqa: S301 - what the driver has sent
        for batch in batches:
            outcome = engine.score(batch.rename_columns(self._names))
            for status, rows in ((SCORED, outcome.scored), (REJECTED, outcome.rejected)):
                if rows.num_rows:
                    yield self._result(status, rows)

    def _result(self, status: str, rows: ArrowBatch) -> ArrowBatch:
        columns = dict(zip(rows.schema.names, rows.columns, strict=True))
        columns[STATUS] = pa.repeat(pa.scalar(status), rows.num_rows)
        return pa.record_batch(
            [
                columns[field.name].cast(field.type)
                if field.name in columns
                else pa.nulls(rows.num_rows, field.type)
                for field in self._schema
            ],
            schema=self._schema,
        )
