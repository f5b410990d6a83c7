"""A server as a process tree: started on its cores, watched, stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.servers import CLIENT_CPU, MODELS, ROOT, SERVER_CPU, Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Running", "Usage", "pinned", "require_cores", "running"]

START_SECONDS: Final = 60
STOP_SECONDS: Final = 20
_LOG_LINES: Final = 15


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
    """A started server."""

    server: Server
    port: int
    process: psutil.Process

    @property
    def origin(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def usage(self) -> Usage:
        """Return what its process tree has used so far."""
        cpu, rss, fds = 0.0, 0, 0
        tree = self._tree()
        for process in tree:
            times = process.cpu_times()
            cpu += times.user + times.system + times.children_user + times.children_system
            rss += process.memory_info().rss
            fds += process.num_fds()
        return Usage(cpu, rss, fds, len(tree))

    def post(self, path: str, body: bytes) -> bytes:
        """Post one JSON document and return the answer."""
        request = Request(  # noqa: S310 - our own http origin
            self.origin + path, data=body, headers={"Content-Type": "application/json"}
        )
        with urlopen(request, timeout=10) as answer:  # noqa: S310 - likewise
            read: bytes = answer.read()
            return read

    def wait_until_ready(self, body: bytes) -> None:
        """Post until it answers.

        Raises:
            BenchmarkError: It ended, or did not answer in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE:
                raise BenchmarkError(f"{self.server.name} ended while it started.")
            try:
                self.post("/predict", body)
            except (URLError, OSError):
                time.sleep(0.1)
            else:
                return
        raise BenchmarkError(f"{self.server.name} was not ready after {START_SECONDS} s.")

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def running(server: Server, *, home: Path, log: Path, ready: bytes) -> Iterator[Running]:
    """Start the server, wait until it answers ``ready``, and stop it in the end.

    Args:
        server: What to start.
        home: The model store, ``BENTOML_HOME``.
        log: Where its output goes.
        ready: The body of the request it has to answer.

    Raises:
        BenchmarkError: It did not start; the message has the end of its log.
    """
    port = _free_port()
    environment = {
        # Settings of the person who runs this must not leak into what is compared.
        **{name: value for name, value in os.environ.items() if not name.startswith("CHURN_")},
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "CHURN_MODEL_TAG": f"{MODELS[server.model]}:latest",
        **server.environment,
    }
    with log.open("wb") as output, pinned(server.cpus):
        started = subprocess.Popen(
            server.command_line(port),
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    here = Running(server, port, psutil.Process(started.pid))
    try:
        try:
            here.wait_until_ready(ready)
        except BenchmarkError as error:
            end = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise BenchmarkError("\n".join([str(error), *end])) from None
        yield here
    finally:
        _stop(started)


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stop(started: subprocess.Popen[bytes]) -> None:
    try:
        tree = psutil.Process(started.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        tree = []
    started.terminate()
    try:
        started.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
    for orphan in tree:
        if orphan.is_running():
            orphan.kill()
