"""The split topology, where its services would reach each other over TCP: it refuses."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx2
import psutil
import pytest

from churn_serving.runtime.addresses import RUNNER
from tests.system.conftest import BENTOML, PROJECT, READY_SECONDS, STOP_SECONDS
from tests.tools import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET: Final = "service.py:ChurnService"
PICKLE: Final = "application/vnd.bentoml+pickle"


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._path,)


def split(models: dict[str, str], **env: str) -> dict[str, str]:
    settings = {
        "CHURN_TOPOLOGY": "split",
        "CHURN_WORKERS": "1",
        "CHURN_DRAIN_DELAY_SECONDS": "0",
    }
    return os.environ | settings | {"CHURN_MODEL_TAG": models["logistic"], **env}


@contextmanager
def running(
    log: Path, env: dict[str, str], **options: object
) -> Iterator[tuple[str, psutil.Popen]]:
    """Serve as a platform might that places each service by itself, ready or not.

    Yield the address, and the supervisor.
    """
    port = free_port()
    program = (
        "from _bentoml_impl.loader import load\n"
        "from _bentoml_impl.server import serve_http\n"
        f"load({TARGET!r}, '.').inject_config()\n"
        f"serve_http({TARGET!r}, '.', host='127.0.0.1', port={port}, **{options!r})"
    )
    with log.open("wb") as output:
        process = psutil.Popen(
            [sys.executable, "-c", program],
            cwd=PROJECT,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}", process
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, log.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answer(url: str, supervisor: psutil.Popen, log: Path) -> httpx2.Response:
    """Return what is answered once there is somebody."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and supervisor.poll() is None:
        with suppress(httpx2.TransportError):
            return httpx2.get(url, timeout=30)
        time.sleep(0.1)
    pytest.fail(log.read_text())


def test_it_starts_nothing_where_bentoml_would_take_tcp(models: dict[str, str]) -> None:
    port = str(free_port())
    done = subprocess.run(
        [BENTOML, "serve", TARGET, "--host", "127.0.0.1", "--port", port],
        cwd=PROJECT,
        env=split(models, BENTOML_NO_UDS="1"),
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "CHURN_TOPOLOGY=split needs a Unix socket" in line
    assert "BENTOML_NO_UDS" in line


def test_a_worker_with_a_runner_on_tcp_stays_and_says_why_it_is_not_ready(
    models: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    elsewhere = {RUNNER: f"http://127.0.0.1:{free_port()}"}
    with running(log, split(models), dependency_map=elsewhere) as (url, supervisor):
        ready = answer(f"{url}/health/ready", supervisor, log)
        assert ready.status_code == 503
        assert "unpickle" in ready.text
        workers = supervisor.children()
        time.sleep(2)
        assert supervisor.children() == workers
    assert log.read_text().count("stays up, not ready") == 1


def test_a_runner_on_tcp_stays_and_reads_nothing(models: dict[str, str], tmp_path: Path) -> None:
    log, trace = tmp_path / "log", tmp_path / "trace"
    with running(log, split(models), service_name=RUNNER) as (url, supervisor):
        assert answer(f"{url}/readyz", supervisor, log).status_code == 503
        sent = httpx2.post(
            f"{url}/score",
            content=pickle.dumps(Bomb(trace)),
            headers={"content-type": PICKLE},
            timeout=30,
        )
        assert sent.status_code == 503
        assert not trace.exists()
        workers = supervisor.children()
        time.sleep(2)
        assert supervisor.children() == workers
    assert "answers nobody" in log.read_text()
