"""A server and all its processes: started on its cores, watched, stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.request import Request, urlopen
from uuid import uuid4

import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.servers import CLIENT_CPU, MODELS, PREDICT, ROOT, SERVER_CPU, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from benchmarks.workload import Workload

__all__ = ["Running", "Usage", "free_port", "launched", "pinned", "require_cores", "running"]

START_SECONDS: Final = 60
STOP_SECONDS: Final = 20
_LOG_LINES: Final = 15
_READY_INTERVAL_SECONDS: Final = 0.05
_MARK: Final = "BENCHMARK_MARK"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process tree has used so far.

    Attributes:
        cpu_seconds: User and system time of all processes, ended children included.
        rss_bytes: Resident memory; a page that processes share counts in each of them.
        fds: Open file descriptors.
        processes: How many there are.
    """

    cpu_seconds: float
    rss_bytes: int
    fds: int
    processes: int


@dataclass(frozen=True, slots=True)
class Running:
    """A started server.

    Attributes:
        name: For messages.
        port: Where it answers.
        process: What was started; others may belong to it.
        mark: In the environment of each of its processes, wherever they are in the tree.
    """

    name: str
    port: int
    process: psutil.Process
    mark: str

    @property
    def origin(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def usage(self) -> Usage:
        """Return what its processes have used so far."""
        cpu, rss, fds = 0.0, 0, 0
        processes = _marked(self.mark)
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # it has ended just now
                times = process.cpu_times()
                cpu += times.user + times.system + times.children_user + times.children_system
                rss += process.memory_info().rss
                fds += process.num_fds()
        return Usage(cpu, rss, fds, len(processes))

    def pss_bytes(self) -> int:
        """Return its memory; a page that processes share is divided among them."""
        return sum(process.memory_full_info().pss for process in _marked(self.mark))

    def post(self, path: str, body: bytes) -> bytes:
        """Post one JSON document and return the answer."""
        request = Request(  # noqa: S310 - our own http origin
            self.origin + path, data=body, headers={"Content-Type": "application/json"}
        )
        with urlopen(request, timeout=10) as answer:  # noqa: S310 - likewise
            read: bytes = answer.read()
            return read

    def wait_until_ready(self, is_ready: Callable[[Running], object], seconds: float) -> None:
        """Try ``is_ready`` until it raises nothing.

        Raises:
            BenchmarkError: The server ended, or was not ready in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE:
                raise BenchmarkError(f"{self.name} ended while it started.")
            try:
                is_ready(self)
            except (OSError, HTTPException):
                time.sleep(_READY_INTERVAL_SECONDS)
            else:
                return
        raise BenchmarkError(f"{self.name} was not ready after {seconds:.0f} s.")


@contextmanager
def running(server: Server, workload: Workload, *, log: Path) -> Iterator[Running]:
    """Start the server, wait until it answers a request, and stop it in the end.

    Args:
        server: What to start.
        workload: Has its model.
        log: Where its output goes.

    Raises:
        BenchmarkError: It did not start; the message has the end of its log.
    """
    port = free_port()
    environment = {
        "BENTOML_HOME": str(workload.home),
        "BENTOML_DO_NOT_TRACK": "True",
        "CHURN_MODEL_TAG": f"{MODELS[server.model]}:latest",
        "CHURN_BUNDLE": str(workload.exports[server.model].bundle),
        **server.environment,
    }
    with launched(
        server.name,
        server.command_line(port),
        port=port,
        environment=environment,
        folder=ROOT,
        cpus=server.cpus,
        log=log,
        is_ready=lambda here: here.post(PREDICT, workload.ready),
    ) as here:
        yield here


@contextmanager
def launched(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    environment: Mapping[str, str],
    folder: Path,
    cpus: Iterable[int],
    log: Path,
    is_ready: Callable[[Running], object],
    seconds: float = START_SECONDS,
) -> Iterator[Running]:
    """Run a server on these cores, from when it is ready until the block ends.

    Args:
        name: For messages.
        command: Starts it in the foreground.
        port: Where it will answer.
        environment: On top of this process's own.
        folder: Where it is started.
        cpus: Where it may run.
        log: Where its output goes.
        is_ready: Raises OSError or HTTPException while it is not.
        seconds: How long it may take until then.

    Raises:
        BenchmarkError: It did not start; the message has the end of its log.
    """
    mark = uuid4().hex
    # Settings of the person who runs this must not leak into what is compared.
    own = {name: value for name, value in os.environ.items() if not name.startswith("CHURN_")}
    with log.open("wb") as output, pinned(cpus):
        started = subprocess.Popen(
            command,
            cwd=folder,
            env={**own, **environment, _MARK: mark},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    here = Running(name, port, psutil.Process(started.pid), mark)
    try:
        try:
            here.wait_until_ready(is_ready, seconds)
        except BenchmarkError as error:
            end = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise BenchmarkError("\n".join([str(error), *end])) from None
        yield here
    finally:
        _stop(started, mark)


def require_cores() -> None:
    """Look for the two cores that the harness uses.

    Raises:
        BenchmarkError: They are not there.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise BenchmarkError("The benchmark pins processes to cores, which only Linux can do.")
    if not {SERVER_CPU, CLIENT_CPU} <= os.sched_getaffinity(0):
        raise BenchmarkError("Two cores are needed, 0 for the server and 1 for the client.")


@contextmanager
def pinned(cpus: Iterable[int]) -> Iterator[None]:
    """Run on these cores; what is started meanwhile stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stop(started: subprocess.Popen[bytes], mark: str) -> None:
    started.terminate()
    try:
        started.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
    for orphan in _marked(mark):
        with suppress(psutil.NoSuchProcess):
            orphan.kill()


def _marked(mark: str) -> list[psutil.Process]:
    """Return the processes that have inherited the mark: also those that left the tree."""
    found = []
    for process in psutil.process_iter():
        # Not psutil's own reading, which ends where a process has written its title over the rest.
        with suppress(psutil.Error, OSError):
            if mark.encode() in Path(f"/proc/{process.pid}/environ").read_bytes():
                found.append(process)
    return found
