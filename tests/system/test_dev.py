"""``make dev``: new code answers after a save, and a mistake is waited out."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx2
import psutil
import pytest

from tests.system.conftest import PROJECT
from tests.tools import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE_SECONDS = 120


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it never came")


def test_new_code_answers_after_a_save(models: dict[str, str], tmp_path: Path) -> None:
    for name in ("src", "deploy"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    shutil.copy(PROJECT / "service.py", tmp_path)
    code = tmp_path / "src" / "churn_serving" / "__init__.py"
    log, port = tmp_path / "log", free_port()
    with log.open("wb") as output:
        tool = subprocess.Popen(
            [sys.executable, "deploy/dev.py", "--port", str(port)],
            cwd=tmp_path,
            env={
                **os.environ,
                "CHURN_MODEL_TAG": models["logistic"],
                "PYTHONPATH": str(tmp_path / "src"),
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def version() -> str | None:
        try:
            answer = httpx2.get(f"http://127.0.0.1:{port}/openapi.json", timeout=5)
        except httpx2.TransportError:
            return None
        found: str = answer.json()["info"]["version"]
        return found

    try:
        _until(lambda: version() is not None)
        first, text = version(), code.read_text()
        new = text.replace(f'"{first}"', '"9.9.9"')
        code.write_text(new)
        _until(lambda: version() == "9.9.9")
        code.write_text(new + "(")
        _until(lambda: "the next save starts another" in log.read_text())
        code.write_text(text)
        _until(lambda: version() == first)
        workers = psutil.Process(tool.pid).children(recursive=True)
        assert len(workers) == 1
        tool.send_signal(signal.SIGTERM)
        assert tool.wait(PATIENCE_SECONDS) == 0
        _until(lambda: not any(worker.is_running() for worker in workers))
    finally:
        if tool.poll() is None:
            for child in psutil.Process(tool.pid).children(recursive=True):
                child.kill()
            tool.kill()
            tool.wait()
