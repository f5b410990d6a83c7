"""A Spark cluster of one master and some workers on this machine, whose executors can be killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import venv
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import numpy as np
import psutil
import pyarrow as pa

__all__ = ["Cluster", "bare_python"]

PATIENCE_SECONDS: Final = 90
EXECUTOR: Final = "CoarseGrainedExecutorBackend"
_MASTER: Final = re.compile(r"Starting Spark master at (spark://\S+)")
_HERE: Final = "127.0.0.1"


def bare_python(folder: Path) -> Path:
    """Make an environment that has numpy and pyarrow, and nothing else."""
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for library in (np, pa):
        package = Path(library.__file__ or "").parent
        (site / package.name).symlink_to(package)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            (site / libraries.name).symlink_to(libraries)
    return folder / "bin" / "python"


class Cluster:
    """A master and its workers, each with one core.

    Args:
        folder: For what they write.
        workers: How many.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        import pyspark

        self._home = Path(pyspark.__file__).parent
        self._folder = folder
        self._workers = workers
        self._processes: list[subprocess.Popen[bytes]] = []
        self.master = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(PATIENCE_SECONDS)

    def _start(self) -> None:
        (self._folder / "conf").mkdir(parents=True)
        (self._folder / "conf" / "spark-defaults.conf").write_text(
            "spark.executor.memory 512m\nspark.ui.enabled false\n"
        )
        self._run("master.Master", "--port", "0", "--host", _HERE)
        self.master = self._logged("master.Master", _MASTER)
        for number in range(self._workers):
            self._run(
                "worker.Worker",
                *("--host", _HERE, "--cores", "1", "--memory", "1g"),
                *("--work-dir", str(self._folder / f"work-{number}"), self.master),
                log=f"worker-{number}",
            )
        for number in range(self._workers):
            self._logged(f"worker-{number}", re.compile("(Successfully registered) with master"))

    def _run(self, role: str, *arguments: str, log: str = "") -> None:
        with (self._folder / f"{log or role}.log").open("wb") as file:
            command = [str(self._home / "bin" / "spark-class"), f"org.apache.spark.deploy.{role}"]
            self._processes.append(
                subprocess.Popen(
                    [*command, *arguments, "--webui-port", "0"],
                    env={**os.environ, "SPARK_LOCAL_IP": _HERE, "SPARK_HOME": str(self._home)},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            )

    def _logged(self, log: str, pattern: re.Pattern[str]) -> str:
        file = self._folder / f"{log}.log"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := pattern.search(file.read_text(errors="replace"))) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{log} said only: {file.read_text()[-2000:]}")
            time.sleep(0.05)
        return found[1]

    def environment(self, python: Path) -> dict[str, str]:
        """Return the variables of an application whose executors run this Python."""
        return {
            "SPARK_LOCAL_IP": _HERE,
            "SPARK_CONF_DIR": str(self._folder / "conf"),
            "PYSPARK_PYTHON": str(python),
            "PYSPARK_DRIVER_PYTHON": sys.executable,
        }

    def submit(
        self, script: Path, *arguments: object, python: Path, py_files: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run a script as ``spark-submit`` does."""
        return subprocess.run(
            [
                *(str(self._home / "bin" / "spark-submit"), "--master", self.master),
                *("--py-files", str(py_files), str(script), *map(str, arguments)),
            ],
            env={**os.environ, **self.environment(python)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def kill_an_executor(self) -> None:
        """Kill one with its processes, as a machine that is lost."""
        for worker in self._processes[1:]:
            for process in psutil.Process(worker.pid).children():
                if EXECUTOR in " ".join(process.cmdline()):
                    for each in [process, *process.children(recursive=True)]:
                        with suppress(psutil.NoSuchProcess):
                            each.kill()
                    return
        raise RuntimeError("There is no executor.")
