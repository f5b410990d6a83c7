"""Spark moves the batches, and what comes out is what one machine would have written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from churn_serving.bulk import spark
from churn_serving.bulk.engine import Wanted, make_engine
from churn_serving.errors import DataError
from churn_serving.learning.dataset import _public_file, load_dataset
from churn_serving.model.artifact import load_artifact
from churn_serving.model.policy import Policy
from tests.customer_tables import customers
from tests.system.spark_cluster import Cluster, bare_python
from tests.system.whole_tables import CHURN, ROWS, register, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import DataFrame, SparkSession

    from churn_serving.model.artifact import Artifact

# Some versions of pandas are new to Spark; we give it none.
pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support:FutureWarning")

PACKAGE = Path(__file__).parents[2]
FILES = 3


@pytest.fixture(scope="module")
def model() -> str:
    return register("spark")


@pytest.fixture(scope="module")
def artifact(model: str) -> Artifact:
    return load_artifact(model)


@pytest.fixture(scope="module")
def session() -> Iterator[SparkSession]:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        "spark.ui.enabled": "false",
        "spark.log.level": "OFF",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.session.timeZone": "Europe/Berlin",
    }
    session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    yield session
    session.stop()


def odd_customers() -> Any:
    """A table as a company has it: decimals, empty cells, bad rows, further columns."""
    table = customers(load_dataset(), 3000)
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    monthly = [Decimal(f"{value:.2f}") for value in columns["monthly_charges"].to_pylist()]
    columns["monthly_charges"] = pa.array(monthly, pa.decimal128(9, 2))
    words = columns["contract_type"].to_pylist()
    words[5], words[6] = "for ever", None
    columns["contract_type"] = pa.array(words)
    tenure = [None if row == 7 else value for row, value in enumerate(columns["tenure_months"])]
    columns["tenure_months"] = pa.array([None if t is None else t.as_py() for t in tenure])
    totals = columns["total_charges"].to_numpy().copy()
    totals[[8, 9, 10]] = np.nan, np.inf, -1
    columns["total_charges"] = pa.array(totals)
    columns["customer_id"] = pa.array(range(3000), pa.int64())
    worth = [100.0 + row for row in range(3000)]
    columns["customer_value"] = pa.array([None, -1.0, *worth[2:]])
    since = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    columns["since"] = pa.array([since] * 3000, pa.timestamp("us", "UTC"))
    columns["the.region"] = pa.array(["north", None, "south"] * 1000)
    return pa.table(columns)


def by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["customer_id"])


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for one, other in zip(by_id(found), by_id(expected), strict=True):
        for name, value in one.items():
            if isinstance(value, float):
                assert value == pytest.approx(other[name], rel=1e-12, abs=1e-12)
            else:
                assert value == other[name]


def rows_of(results: DataFrame, status: str) -> list[dict[str, Any]]:
    rows = [row.asDict() for row in results.collect()]
    left_out = {"scored": {"status", "field", "reason"}, "rejected": {"status"}}[status]
    return [
        {name: value for name, value in row.items() if name not in left_out}
        for row in rows
        if row["status"] == status
    ]


@pytest.mark.parametrize("batch", [700, 10_000])
def test_a_data_frame_is_scored_as_the_engine_does(
    session: SparkSession, artifact: Artifact, tmp_path: Path, batch: int
) -> None:
    table = odd_customers()
    pq.write_table(table, tmp_path / "odd.parquet")
    session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", batch)
    options: dict[str, Any] = {"keep": ("since", "the.region"), "reasons": 2}
    policy = Policy(control_share=0.1, control_salt="salt")
    frame = session.read.parquet(str(tmp_path / "odd.parquet"))
    results = spark.score(frame, artifact, policy=policy, **options)
    engine = make_engine(artifact, policy, table.schema, Wanted(**options))
    outcome = engine.score(table.combine_chunks().to_batches()[0])
    expected = outcome.scored.to_pylist()
    for row in expected:  # Spark hands times out in the zone of this process
        row["since"] = row["since"].astimezone().replace(tzinfo=None)
    assert len(expected) == 2993
    assert_same(rows_of(results, "scored"), expected)
    rejected = [
        {name: row[name] for name in ("customer_id", "field", "reason")}
        for row in rows_of(results, "rejected")
    ]
    assert by_id(rejected) == by_id(outcome.rejected.to_pylist())


def test_a_csv_file_read_as_texts_is_scored_alike(
    session: SparkSession, artifact: Artifact
) -> None:
    frame = session.read.csv(str(_public_file()), header=True)
    table = pyarrow.csv.read_csv(_public_file())
    engine = make_engine(artifact, Policy(), table.schema)
    expected = engine.score(table.combine_chunks().to_batches()[0]).scored.to_pylist()
    assert len(expected) == 7043
    assert_same(rows_of(spark.score(frame, artifact.tag), "scored"), expected)


def test_names_that_differ_in_their_case_only_are_kept_apart(
    session: SparkSession, artifact: Artifact
) -> None:
    frame = session.createDataFrame(customers(load_dataset(), 10))
    session.conf.set("spark.sql.caseSensitive", "true")
    frame = frame.withColumn("Region", frame.tenure_months).withColumn("region", frame.customer_id)
    session.conf.set("spark.sql.caseSensitive", "false")
    rows = rows_of(spark.score(frame, artifact, keep=["region"]), "scored")
    assert [row["region"] for row in rows] == [row["customer_id"] for row in rows]


def test_a_table_that_cannot_be_scored_is_refused_before_anything_runs(
    session: SparkSession, artifact: Artifact
) -> None:
    frame = session.createDataFrame(customers(load_dataset(), 10))
    with pytest.raises(DataError, match="monthly_charges"):
        spark.score(frame.drop("monthly_charges"), artifact)
    with pytest.raises(DataError, match="'customer_id' is there more than once"):
        spark.score(frame.select("*", frame.customer_id), artifact)
    with pytest.raises(DataError, match="Cannot keep"):
        spark.score(frame.withColumn("reason", frame.customer_id), artifact, keep=["reason"])


def test_an_empty_table_has_an_empty_result(
    session: SparkSession, artifact: Artifact, tmp_path: Path
) -> None:
    frame = session.createDataFrame(customers(load_dataset(), 10)).where("tenure_months < 0")
    results = spark.score(frame, artifact)
    counts = spark.write(results, str(tmp_path / "none"), rows=0)
    assert counts == {"in": 0, "scored": 0, "rejected": 0}


def test_results_are_complete_or_have_no_success(
    session: SparkSession, artifact: Artifact, tmp_path: Path
) -> None:
    frame = session.createDataFrame(odd_customers())
    results = spark.score(frame, artifact)
    place, beside = tmp_path / "run=1", tmp_path / "run=0"
    beside.mkdir()
    (beside / "_SUCCESS").touch()
    counts = spark.write(results, str(place), rows=3000)
    assert counts == {"in": 3000, "scored": 2993, "rejected": 7}
    assert json.loads((place / "_MANIFEST.json").read_text())["rows"] == counts
    assert (place / "_SUCCESS").exists()
    assert pq.read_table(place / "status=scored").num_rows == 2993
    assert pq.read_table(place / "status=rejected").column("reason").null_count == 0

    few = spark.score(frame.where("customer_id >= 100"), artifact)
    assert spark.write(few, str(place), rows=2900)["scored"] == 2900
    assert not list(place.glob("status=rejected/*.parquet"))
    assert [path.name for path in beside.iterdir()] == ["_SUCCESS"]

    with pytest.raises(DataError, match=r"7 of 3,000 rows were refused"):
        spark.write(results, str(place), rows=3000, max_reject_rate=0.001)
    assert not (place / "_SUCCESS").exists()
    with pytest.raises(DataError, match="does not add up"):
        spark.write(results, str(place), rows=3001)
    assert not (place / "_SUCCESS").exists()


def test_a_failed_task_leaves_nothing_half(
    session: SparkSession, artifact: Artifact, tmp_path: Path
) -> None:
    from pyspark.errors import PySparkException

    frame = session.createDataFrame(customers(load_dataset(), 2000)).repartition(4)
    place = tmp_path / "run=1"
    spark.write(spark.score(frame, artifact), str(place), rows=2000)
    one = frame.first()
    assert one is not None
    broken = frame.withColumn("tenure_months", _fails_for(one.customer_id))
    with pytest.raises(PySparkException):
        spark.write(spark.score(broken, artifact), str(place), rows=2000)
    assert not [path for path in place.rglob("*") if path.suffix == ".parquet"]
    assert not (place / "_SUCCESS").exists()


def _fails_for(customer: str) -> Any:
    from pyspark.sql import functions

    failed = functions.raise_error(functions.lit("broken")).cast("long")
    found = functions.col("customer_id") == customer
    return functions.when(found, failed).otherwise(functions.col("tenure_months"))


def test_a_folder_that_holds_something_else_is_left_alone(
    session: SparkSession, artifact: Artifact, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    results = spark.score(session.createDataFrame(customers(load_dataset(), 10)), artifact)
    with pytest.raises(DataError, match=r"holds something else than results \('photos'\)"):
        spark.write(results, str(tmp_path), rows=10)
    assert (tmp_path / "photos").exists()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table"), FILES)


@pytest.fixture(scope="module")
def score(model: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CHURN, *map(str, arguments), "--model", model],
            env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), workers=2) as cluster:
        yield cluster


SUBMITTED = """
import sys
from pyspark.sql import SparkSession
from churn_serving.bulk import spark
session = SparkSession.builder.getOrCreate()
customers = session.read.parquet(sys.argv[1])
results = spark.score(customers, sys.argv[2])
print(spark.write(results, sys.argv[3], rows=customers.count()))
"""


def test_an_executor_needs_numpy_pyarrow_and_the_wheel_only(
    cluster: Cluster, table: Path, model: str, tmp_path: Path
) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", str(tmp_path), str(PACKAGE)),
        ],
        check=True,
        timeout=120,
    )
    (built,) = tmp_path.glob("*.whl")
    # Spark puts no .whl on the path of Python, but a wheel is a zip.
    wheel = built.rename(tmp_path / "churn_serving.zip")
    (tmp_path / "job.py").write_text(SUBMITTED)
    python = bare_python(tmp_path / "bare")
    arguments = (table / "00.parquet", model, tmp_path / "run=1")
    done = cluster.submit(tmp_path / "job.py", *arguments, python=python, py_files=wheel)
    assert done.returncode == 0, done.stderr
    assert f"'scored': {ROWS}" in done.stdout


def test_a_damaged_file_leaves_no_success_and_what_is_done_stays(
    table: Path, score: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    shutil.copytree(table, tmp_path / "table")
    damaged = tmp_path / "table" / "01.parquet"
    data = bytearray(damaged.read_bytes())
    data[4:2000] = bytes(1996)
    damaged.write_bytes(data)
    output = tmp_path / "scores"
    arguments = (
        tmp_path / "table",
        "--output",
        output,
        "--engine",
        "spark",
        "--master",
        "local[2]",
    )
    done = score(*arguments)
    assert done.returncode == 1
    assert "01.parquet is not a readable table" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert len(list(output.rglob("scored/part-*"))) == FILES - 1
    assert not list(output.rglob("*.tmp"))
    assert not list(output.rglob("_SUCCESS"))


def test_the_command_gives_the_same_bytes_as_one_machine(
    table: Path, score: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """``make chaos`` compares a cluster that loses an executor."""
    ours, theirs = tmp_path / "local", tmp_path / "spark"
    assert score(table, "--output", ours).returncode == 0
    done = score(table, "--output", theirs, "--engine", "spark", "--master", "local[2]")
    assert done.returncode == 0, done.stderr
    for part in ours.rglob("part-*"):
        assert (theirs / part.relative_to(ours)).read_bytes() == part.read_bytes()
    # It is the same run for both, and it is complete.
    again = score(table, "--output", theirs)
    assert "nothing was done" in again.stdout, again.stderr


def test_ctrl_c_ends_java_too(table: Path, model: str, tmp_path: Path) -> None:
    arguments = [table, "--output", tmp_path / "scores", "--engine", "spark", "--model", model]
    # What a shell runs in the background ignores Ctrl-C, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [*CHURN, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        command = psutil.Process(process.pid)
        while process.poll() is None and not (started := command.children(recursive=True)):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Interrupted" in errors
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive


def test_without_java_one_sentence_says_so(
    table: Path, score: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    arguments = (table, "--output", tmp_path / "scores", "--engine", "spark")
    done = score(*arguments, JAVA_HOME="", PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: Spark needs Java 17 or newer, and there is none")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "scores").exists()
