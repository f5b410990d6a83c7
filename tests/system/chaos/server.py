"""A real ``bentoml serve``, started, watched and stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.process import pss_bytes
from tests.system.chaos.client import ask, request
from tests.system.chaos.report import ChaosError
from tests.tools import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["PROBE", "START_SECONDS", "Server", "Usage", "serve_and_fail", "serving", "wait_for"]

PROJECT: Final = Path(__file__).parents[3]
# Patience, not expectation: what takes so long never comes.
START_SECONDS: Final = 120
STOP_SECONDS: Final = 60

_COMMAND: Final = (
    str(Path(sys.executable).with_name("bentoml")),
    *("serve", "service.py:ChurnService", "--host", "127.0.0.1", "--port"),
)
_WORKER: Final = "_bentoml_impl.worker.service"
_SCRAPE: Final = request("GET", "/metrics")
PROBE: Final = request("GET", "/readyz")
_LOG_LINES: Final = 8
_LINE_CHARACTERS: Final = 200


class Usage(NamedTuple):
    """What the supervisor and the workers hold: memory, and file descriptors.

    The memory is their PSS in megabytes, but for pages of files: what is asked here is whether it
    grows, and those grow when a neighbour ends that maps the same libraries.
    """

    pss_mb: float
    fds: int


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    port: int
    started: subprocess.Popen[bytes]
    log: Path

    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer."""
        found = []
        for child in psutil.Process(self.started.pid).children():
            with suppress(psutil.NoSuchProcess):
                if _WORKER in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
        return found

    def pids(self) -> set[int]:
        """Return the ids of the workers: others mean that one was started again."""
        return {worker.pid for worker in self.workers()}

    def usage(self) -> Usage:
        """Return what the supervisor and the workers hold now."""
        processes = [psutil.Process(self.started.pid), *self.workers()]
        return Usage(
            round(sum(pss_bytes(process.pid, "Pss_Anon") for process in processes) / 1e6, 1),
            sum(process.num_fds() for process in processes),
        )

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels; NaN if it has none."""
        text = ask(self.port, _SCRAPE).body.decode()
        values = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else float("nan")

    def await_ready(self, workers: int) -> None:
        """Wait until so many workers are ready.

        Raises:
            ChaosError: They are not.
        """
        if wait_for(lambda: self.metric("ml_workers_ready") == workers, START_SECONDS) is None:
            raise ChaosError(f"ml_workers_ready did not reach {workers}.")

    def stop(self) -> int:
        """Send SIGTERM and return the exit code.

        Raises:
            ChaosError: It goes on.
        """
        self.started.send_signal(signal.SIGTERM)
        try:
            return self.started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise ChaosError(f"The server did not stop within {STOP_SECONDS} s.") from None


@contextmanager
def serving(env: Mapping[str, str], log: Path, *, probe: bytes = PROBE) -> Iterator[Server]:
    """Run ``bentoml serve`` until the block ends.

    Args:
        env: Its environment.
        log: Where its output goes.
        probe: It is up once this is answered with 200.

    Raises:
        ChaosError: It did not start, or did not stop cleanly when it was asked to.
    """
    port = free_port()
    with log.open("wb") as output:
        started = subprocess.Popen(
            [*_COMMAND, str(port)], cwd=PROJECT, env=env, stdout=output, stderr=subprocess.STDOUT
        )
    server = Server(port, started, log)
    try:
        _wait_until_up(server, probe)
        yield server
        if started.poll() is None and (code := server.stop()):
            raise ChaosError(f"The server ended with exit code {code}.")
    finally:
        if started.poll() is None:
            for child in psutil.Process(started.pid).children(recursive=True):
                child.kill()
            started.kill()
            started.wait()


def serve_and_fail(env: Mapping[str, str]) -> str:
    """Return what a start that must fail prints.

    Raises:
        ChaosError: It did not fail.
    """
    try:
        completed = subprocess.run(
            [*_COMMAND, str(free_port())],
            cwd=PROJECT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ChaosError("The server started, and should have refused to.") from None
    if completed.returncode == 0:
        raise ChaosError("The start failed, but with exit code 0.")
    return completed.stdout


def wait_for(holds: Callable[[], object], seconds: float, step: float = 0.05) -> float | None:
    """Wait for something; return how many seconds that took, or None if it did not happen."""
    start = time.monotonic()
    while (waited := time.monotonic() - start) < seconds:
        with suppress(OSError):  # a server that does not answer now may answer later
            if holds():
                return round(waited, 2)
        time.sleep(step)
    return None


def _wait_until_up(server: Server, probe: bytes) -> None:
    def up() -> bool:
        if server.started.poll() is not None:
            raise ChaosError("\n".join(["The server ended while it started.", *_end_of(server)]))
        return ask(server.port, probe, timeout=2).status == 200

    if wait_for(up, START_SECONDS) is None:
        raise ChaosError("\n".join(["The server was not ready in time.", *_end_of(server)]))


def _end_of(server: Server) -> list[str]:
    lines = server.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return [line[:_LINE_CHARACTERS] for line in lines]
