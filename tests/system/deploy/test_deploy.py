"""The commands that build, when what they need is not there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[3]


IMAGE = ("-m", "deploy.container.image")


def run(*arguments: str, path: Path | None = None, **env: str) -> tuple[int, str]:
    """Run one of the scripts with these programs on the PATH; return its code and its output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env={**os.environ, **({"PATH": str(path)} if path else {}), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def program(folder: Path, name: str, code: int) -> None:
    """Put a program there that does nothing but end with a code."""
    path = folder / name
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Answer every request with 404; yield where, and what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_without_an_engine_the_image_is_not_built_and_says_what_to_install(tmp_path: Path) -> None:
    code, output = run(*IMAGE, "build", path=tmp_path)
    assert code == 1
    assert "There is no docker, podman or buildah that works here" in output


def test_an_engine_that_does_not_work_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path, "docker", 1)  # installed, but its daemon is not running
    program(tmp_path, "podman", 0)
    _, output = run(*IMAGE, "build", "--bento", "no_such_bento", path=tmp_path)
    assert "docker, podman" not in output


def test_the_engine_that_is_asked_for_is_the_only_one_tried(tmp_path: Path) -> None:
    program(tmp_path, "podman", 0)
    code, output = run(*IMAGE, "build", path=tmp_path, ENGINE="docker")
    assert code == 1
    assert "There is no docker that works here" in output


def test_without_a_bento_the_image_is_not_built(tmp_path: Path) -> None:
    program(tmp_path, "podman", 0)
    code, output = run(*IMAGE, "build", "--bento", "no_such_bento", path=tmp_path)
    assert code == 1
    assert "no_such_bento" in output


def test_what_an_image_cannot_serve_leaves_no_process(tmp_path: Path) -> None:
    # A server that ends, and leaves its worker.
    package = tmp_path / "bentoml"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import subprocess, sys\n"
        "worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(worker.pid))\n"
        "sys.exit(1)\n"
    )
    bytecode = str(tmp_path / "bytecode")
    code, output = run(
        *("deploy/container/serve_once.py", "no_such_bento"),
        PYTHONPATH=str(tmp_path),
        PYTHONPYCACHEPREFIX=bytecode,
    )
    assert code == 1
    assert "cannot be served" in output
    with suppress(psutil.NoSuchProcess):
        worker = psutil.Process(int((tmp_path / "pid").read_text()))
        # What became an orphan here may be nobody's to bury.
        assert worker.status() == psutil.STATUS_ZOMBIE


def test_without_a_model_no_bento_is_built(tmp_path: Path) -> None:
    code, output = run("deploy/bento.py", BENTOML_HOME=str(tmp_path))
    assert code == 1
    assert "has no model 'churn_classifier'; train one with" in output
    assert list(tmp_path.glob("bentos/*/*")) == []


@pytest.mark.parametrize("origin", ["http://127.0.0.1:9", "http://no.such.host.invalid"])
def test_the_contract_check_says_when_nobody_answers(origin: str) -> None:
    code, output = run("deploy/check.py", origin)
    assert code == 1
    assert f"nothing answers at {origin}" in output


def test_the_contract_check_asks_a_service_on_this_machine_without_a_proxy() -> None:
    with listening() as (origin, asked):
        nowhere = "http://127.0.0.1:9"
        code, output = run(
            "deploy/check.py",
            origin,
            http_proxy=nowhere,
            HTTP_PROXY=nowhere,
            no_proxy="",
            NO_PROXY="",
        )
    assert code == 1
    assert "nothing answers" not in output
    assert asked[0] == "/health"


def test_the_contract_check_asks_any_other_service_through_the_proxy() -> None:
    with listening() as (proxy, asked):
        run(
            "deploy/check.py",
            "http://churn.example.com",
            http_proxy=proxy,
            no_proxy="",
            NO_PROXY="",
        )
    assert asked[0] == "http://churn.example.com/health"
