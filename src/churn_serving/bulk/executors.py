"""Spark's executors as the workers of a run: ``churn score --engine spark``.

Spark gives the pieces of the table to its executors, and gives those of a lost one to another.
Reading, scoring and writing are the same as on one machine, so the parts have the same bytes. All
machines must see the table and the output under the same paths.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

import churn_serving
from churn_serving.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyspark import Accumulator, Broadcast, SparkContext

    from churn_serving.bulk.tables import Piece
    from churn_serving.bulk.work import Work

__all__ = ["Executors", "connected"]

_LOOKS_EVERY_SECONDS: Final = 0.2
_LONGEST: Final = 300
_CONFIGURATION: Final = {
    "spark.log.level": "ERROR",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # A process is one core. See cli.score.
    "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
    "spark.executorEnv.OMP_NUM_THREADS": "1",
}


@contextmanager
def connected(master: str) -> Iterator[Executors]:
    """Connect to a cluster, or start one in this process.

    Args:
        master: As Spark names it: ``local[2]``, ``spark://host:7077``, ``yarn``, ``k8s://...``.

    Raises:
        SettingsError: There is no Java, or no such cluster.
    """
    # Here, and not above: where a table is scored without Spark, it need not be there.
    with _any_pandas():
        from py4j.protocol import Py4JError  # noqa: PLC0415
        from pyspark import SparkConf, SparkContext  # noqa: PLC0415
        from pyspark.errors import PySparkException  # noqa: PLC0415

    _require_java()
    # Those of a cluster may have another one: the variable says which.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    conf = SparkConf().setMaster(master).setAppName("churn score")
    for name, value in _CONFIGURATION.items():
        conf.setIfMissing(name, value)
    # Executors fetch the code when they start, and one may start late: it stays until the end.
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _interrupted_later(), _any_pandas():
                context = SparkContext(conf=conf)
        except (PySparkException, Py4JError) as error:
            raise SettingsError(f"Spark does not start with {master}: {_cause(error)}.") from error
        try:
            if not master.startswith("local"):
                context.addPyFile(_code(folder))
            yield Executors(context)
        finally:
            with _interrupted_later():
                context.stop()


class Executors:
    """The executors of a Spark application.

    Args:
        context: That application.
    """

    def __init__(self, context: SparkContext) -> None:
        self._context = context

    def do_all(
        self, work: Work, pieces: Sequence[Piece], _workers: int, told: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        """Do the work on every piece, and return the receipts; as ``bulk.crew`` does.

        Args:
            work: What is to be done.
            pieces: In any order.
            told: Told how many rows more are done.

        Raises:
            DataError: The table cannot be read, or Spark gave up.
            OSError: The results cannot be written.
        """
        from py4j.protocol import Py4JError  # noqa: PLC0415 - see above

        if not pieces:
            return []
        rows = self._context.accumulator(0)
        doing = _Doing(self._context.broadcast(pickle.dumps(work)), rows)
        job = self._context.parallelize(pieces, len(pieces)).map(doing)
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(job.collect)
            before = 0
            try:
                while not wait([done], _LOOKS_EVERY_SECONDS).done or before < rows.value:
                    told(rows.value - before)
                    before = rows.value
            except BaseException:
                self._context.setLogLevel("OFF")  # each task would tell how it was ended
                self._context.cancelAllJobs()  # or the thread would wait for their end
                raise
        outcomes: list[dict[str, Any] | Exception]
        try:
            outcomes = done.result()
        except Py4JError as error:
            raise DataError(
                f"Spark gave up: {_cause(error)}. What is done stays; the same command goes on "
                "where it stopped."
            ) from error
        receipts = []
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            receipts.append(outcome)
        return receipts


class _Doing:
    """What an executor runs for a piece.

    Args:
        content: The work, pickled.
        rows: Counts those that are done; of a piece that was done twice, twice.
    """

    def __init__(self, content: Broadcast[bytes], rows: Accumulator[int]) -> None:
        self._content = content
        self._rows = rows

    def __call__(self, piece: Piece) -> dict[str, Any] | Exception:
        """Return the receipt, or what Spark should not try again: it would be the same."""
        pa.set_cpu_count(1)
        work: Work = pickle.loads(self._content.value)  # noqa: S301 - what the driver has sent
        try:
            return work.do(piece, self._rows.add)
        except (DataError, OSError) as error:
            return error


@contextmanager
def _any_pandas() -> Iterator[None]:
    """Say nothing of the version of pandas: some are too new for Spark, and none is used here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*pandas", FutureWarning)
        yield


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Hold Ctrl-C back for the moment: Java would stay if its start or its end was interrupted."""
    if current_thread() is not main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        # Spark has set a handler of its own, and leaves it.
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


def _code(folder: str) -> str:
    """Write this package as an archive: of their own, executors need numpy and pyarrow only."""
    package = Path(churn_serving.__file__).parent
    return shutil.make_archive(str(Path(folder, package.name)), "zip", package.parent, package.name)


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if not (shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")):
        where = f"JAVA_HOME={home} has none" if home else "there is none"
        raise SettingsError(
            f"Spark needs Java 17 or newer, and {where}: install it (on Debian: apt install "
            "openjdk-17-jre-headless), or set JAVA_HOME."
        )


def _cause(error: Exception) -> str:
    """Return what Spark says first, without the traces of its machines."""
    java = getattr(error, "java_exception", None)
    text = str(error if java is None else java.getMessage()).strip()
    return (text.splitlines() or [type(error).__name__])[0][:_LONGEST].rstrip(".")
