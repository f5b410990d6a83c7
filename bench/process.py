"""A server and all its processes: started on its cores, watched, stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import psutil

from bench.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "CLIENT_CPU",
    "ROOT",
    "SERVER_CPU",
    "Running",
    "Usage",
    "free_port",
    "launched",
    "pinned",
    "pss_bytes",
    "require_cores",
    "require_program",
]

ROOT: Final = Path(__file__).resolve().parent.parent
SERVER_CPU: Final = 0
CLIENT_CPU: Final = 1

START_SECONDS: Final = 60
STOP_SECONDS: Final = 45  # longer than the service drains
_ANSWER_SECONDS: Final = 10
_LOG_LINES: Final = 15
_READY_INTERVAL_SECONDS: Final = 0.01
_MARK: Final = "BENCH_MARK"
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Usage:
    """What a server's processes have used so far.

    Attributes:
        cpu_seconds: User and system time of all processes, ended children included.
        fds: Open file descriptors.
        processes: How many there are.
    """

    cpu_seconds: float
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
        started: When, by ``time.monotonic``: a process's own time of birth counts from that of the
            machine, which is known to the second.
    """

    name: str
    port: int
    process: psutil.Process
    mark: str
    started: float

    @property
    def origin(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def usage(self) -> Usage:
        """Return what its processes have used so far."""
        cpu, fds = 0.0, 0
        processes = _marked(self.mark)
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # it has ended just now
                times = process.cpu_times()
                cpu += times.user + times.system + times.children_user + times.children_system
                fds += process.num_fds()
        return Usage(cpu, fds, len(processes))

    def pss_mb(self) -> float:
        """Return the memory of all its processes, in 10^6 bytes.

        It is their proportional share (PSS): a page that processes share is divided among them, so
        that a supervisor and its workers count what they share once.
        """
        return sum(self.pss_mb_apart())

    def pss_mb_apart(self) -> tuple[float, float]:
        """Return the same for the process that was started, and for all others together."""
        first, others = 0, 0
        for process in _marked(self.mark):
            with suppress(OSError):  # it has ended just now
                pss = pss_bytes(process.pid)
                if process.pid == self.process.pid:
                    first += pss
                else:
                    others += pss
        return first / 1e6, others / 1e6

    def post(self, path: str, body: bytes) -> bytes:
        """Post one JSON document and return the answer.

        Raises:
            OSError, HTTPException: There was none, or its status is not 200.
        """
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            read = answer.read()
        finally:
            connection.close()
        if answer.status != _OK:
            raise ConnectionError(f"{path} was answered with {answer.status}: {read[:200]!r}")
        return read

    def wait_until_ready(self, is_ready: Callable[[Running], object], seconds: float) -> None:
        """Try ``is_ready`` until it raises nothing.

        Raises:
            BenchmarkError: The server ended, or was not ready in time.
        """
        deadline = time.monotonic() + seconds
        reason: Exception | None = None
        while time.monotonic() < deadline:
            if not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE:
                raise BenchmarkError(f"{self.name} ended while it started.")
            try:
                is_ready(self)
            except (OSError, HTTPException) as error:
                reason = error
                time.sleep(_READY_INTERVAL_SECONDS)
            else:
                return
        raise BenchmarkError(f"{self.name} was not ready after {seconds:.0f} s ({reason}).")


@contextmanager
def launched(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    environment: Mapping[str, str],
    log: Path,
    is_ready: Callable[[Running], object],
    folder: Path = ROOT,
    cpus: Iterable[int] = (),
    seconds: float = START_SECONDS,
) -> Iterator[Running]:
    """Run a server from when it is ready until the block ends.

    Args:
        name: For messages.
        command: Starts it in the foreground.
        port: Where it will answer.
        environment: All of it.
        log: Where its output goes.
        is_ready: Raises OSError or HTTPException while it is not.
        folder: Where it is started.
        cpus: The cores where it may run; empty: where this process may.
        seconds: How long it may take until it is ready.

    Raises:
        BenchmarkError: It did not start; the message has the end of its log.
    """
    mark = uuid4().hex
    with log.open("wb") as output, pinned(cpus):
        now = time.monotonic()
        started = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, _MARK: mark},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C must end the load before the server
        )
    here = Running(name, port, psutil.Process(started.pid), mark, now)
    try:
        try:
            here.wait_until_ready(is_ready, seconds)
        except BenchmarkError as error:
            end = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise BenchmarkError("\n".join([str(error), *end])) from None
        yield here
    finally:
        _stop(started, mark)


def require_program(name: str, package: str) -> None:
    """Look for a program.

    Raises:
        BenchmarkError: It is not installed.
    """
    if shutil.which(name) is None:
        raise BenchmarkError(f"The program {name} is missing; on Debian: apt install {package}")


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
    """Run on these cores; what is started meanwhile stays there. Without any: as before."""
    cpus = set(cpus)
    if not cpus:
        yield
        return
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


def pss_bytes(pid: int, part: str = "Pss") -> int:
    """Return the proportional memory of a process.

    Args:
        pid: Its id.
        part: ``Pss``, or ``Pss_Anon``: that without the pages of files, which grows and shrinks
            when a neighbour that maps the same libraries ends or starts.
    """
    (kilobytes,) = (
        line.split()[1]
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        if line.startswith(f"{part}:")
    )
    return int(kilobytes) * 1024


def _stop(started: subprocess.Popen[bytes], mark: str) -> None:
    if started.poll() is None:
        started.send_signal(signal.SIGTERM)
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
