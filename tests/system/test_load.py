"""The load test against a real service: by Locust alone, and as ``make load`` runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx2
import psutil
import pytest

from tests.system.conftest import PROJECT, Server, serving
from tests.tools import module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    module("locust", "make load")


KEY = "a-key-of-the-test"
ALL_ANSWERED = re.compile(r"Aggregated +(\d+) +0\(0\.00%\)")
PATIENT = ("--max-p99-ms", "10000")  # these tests share their cores


@pytest.fixture(scope="module")
def server(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that wants an API key."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{KEY}\n")
    env = {"CHURN_MODEL_TAG": models["logistic"], "CHURN_API_KEYS_FILE": str(keys)}
    with serving("service.py:ChurnService", keys.with_name("log"), env=env) as server:
        yield server


def run(
    *command: str, key: str = KEY, cwd: Path = PROJECT, module: str = "locust"
) -> subprocess.CompletedProcess[str]:
    """Run a module's command line; Locust changes sockets and threads, so never in here."""
    return subprocess.run(
        [sys.executable, "-m", module, *command],
        cwd=cwd,
        env={**os.environ, "CHURN_LOAD_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def locust(server: Server, *options: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run Locust alone, as in a checkout on any machine."""
    file = PROJECT / "locustfile.py"
    users = () if "--step-users" in options else ("--users", "12", "--spawn-rate", "12")
    usual = ("--locustfile", str(file), "--headless", "--only-summary", "--host", server.url)
    return run(*usual, *users, *options, **settings)


def last_word(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.splitlines()[-1].partition("churn.load: ")[2]


def test_a_healthy_service_fails_no_request(server: Server, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = locust(server, "--run-time", "5s", "--html", str(report), *PATIENT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counted = ALL_ANSWERED.search(done.stderr + done.stdout)
    assert counted is not None, done.stderr
    assert int(counted[1]) > 0
    assert re.match(r"Passed: \d+ requests/s, 0% failed, p99 [\d.]+ ms\.", last_word(done))
    assert "/api/v1/predict/batch" in report.read_text(encoding="utf-8")
    assert KEY not in report.read_text(encoding="utf-8")


def test_workers_need_no_care(server: Server) -> None:
    done = locust(server, "--processes", "2", "--run-time", "5s", *PATIENT)
    assert done.returncode == 0, done.stderr
    assert ALL_ANSWERED.search(done.stderr + done.stdout), done.stderr


def test_a_limit_that_cannot_hold_fails(server: Server) -> None:
    done = locust(server, "--run-time", "2s", "--max-p99-ms", "0.001")
    assert done.returncode == 1
    assert re.match(r"Failed: p99 was [\d.]+ ms \(limit: 0\.001 ms\)\.", last_word(done))


def test_a_refused_key_is_named(server: Server) -> None:
    done = locust(server, "--run-time", "2s", key="another")
    assert done.returncode == 1
    assert last_word(done).endswith("Most frequent failure: 401 no valid API key.")
    assert KEY not in done.stdout + done.stderr


def test_failures_within_the_limit_are_fine(server: Server) -> None:
    done = locust(server, "--run-time", "2s", "--max-fail-ratio", "1", *PATIENT, key="another")
    assert done.returncode == 0, done.stderr
    assert last_word(done).startswith("Passed: ")


def test_a_service_that_is_not_there_is_named(tmp_path: Path) -> None:
    nowhere = Server("http://127.0.0.1:1", 0, tmp_path)
    done = locust(nowhere, "--run-time", "1s")
    assert done.returncode == 1
    assert last_word(done).endswith("Most frequent failure: connection refused.")


@pytest.mark.parametrize(
    ("limit", "code", "told"),
    [
        ("10000", 0, r"\d+ users held: .*; then the test was ended."),
        ("0.001", 1, "No step held; at 5 users, p99 was .*"),
    ],
    ids=["held", "broken"],
)
def test_the_search_says_which_step_held(server: Server, limit: str, code: int, told: str) -> None:
    steps = ("--step-users", "5", "--step-seconds", "4", "--run-time", "10s")
    done = locust(server, *steps, "--max-p99-ms", limit)
    assert re.fullmatch(told, last_word(done)), done.stderr
    assert done.returncode == code


def make_load(*options: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return run(*options, module="bench.load", **settings)


def test_make_load_reports_on_a_service_that_runs(server: Server, tmp_path: Path) -> None:
    options = ("--users", "12", "--run-time", "4", "--output", str(tmp_path), *PATIENT)
    done = make_load("--host", server.url, *options)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    rows = {row["request"]: row for row in summary["rows"]}
    assert set(rows) == {
        *("POST /predict", "POST /api/v1/predict", "POST /api/v1/predict/batch"),
        *("POST /api/v2/predict", "POST /api/v2/predict/batch", "GET /api/v2/policy"),
        *("GET /health/ready", "all"),
    }
    assert summary["failures"] == []
    everything = rows.pop("all")
    assert everything["requests"] == sum(row["requests"] for row in rows.values()) > 0
    for row in (*rows.values(), everything):
        assert row["failures"] == 0
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    markdown = (tmp_path / "summary.md").read_text()
    assert f"| POST /predict | {rows['POST /predict']['requests']:,} |" in markdown
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert done.stdout.startswith("Passed: ")


def test_make_load_breaks_with_its_limits(server: Server, tmp_path: Path) -> None:
    options = ("--run-time", "2", "--max-p99-ms", "0.001", "--output", str(tmp_path))
    done = make_load("--host", server.url, *options)
    assert done.returncode == 1
    assert done.stdout.startswith("Failed: p99 was ")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", "The service at {url} wants an API key: set CHURN_LOAD_API_KEY to one."),
        (
            "another",
            "The service at {url} refuses the API key in CHURN_LOAD_API_KEY: set the right one.",
        ),
    ],
    ids=["none", "wrong"],
)
def test_make_load_asks_for_the_key(server: Server, key: str, told: str, tmp_path: Path) -> None:
    done = make_load("--host", server.url, "--output", str(tmp_path), key=key)
    assert done.returncode == 1
    assert done.stderr == f"error: {told.format(url=server.url)}\n"


def test_make_load_says_that_nothing_answers(tmp_path: Path) -> None:
    done = make_load("--host", "http://127.0.0.1:1", "--output", str(tmp_path))
    assert done.returncode == 1
    assert re.fullmatch(r"error: Nothing answers at .* \(.*refused\): .*\n", done.stderr)


def test_make_load_starts_a_service_and_ctrl_c_ends_both_with_what_there_is(
    models: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "load"
    command = ["-m", "bench.load", "--port", "1", "--run-time", "60"]
    with (tmp_path / "log").open("w") as log:
        process = psutil.Popen(
            [sys.executable, *command, "--output", str(output), "--users", "5", *PATIENT],
            cwd=PROJECT,
            # Not the latest model: other tests damage theirs.
            env={**os.environ, "CHURN_WORKERS": "1", "CHURN_MODEL_TAG": models["logistic"]},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        while "All users spawned" not in _text(output / "locust.log"):
            assert process.poll() is None, _text(tmp_path / "log")
            assert time.monotonic() < deadline, _text(tmp_path / "log")
            time.sleep(0.1)
        (url,) = re.findall(r"Started the service at (\S+);", _text(tmp_path / "log"))
        time.sleep(3)
        family = process.children(recursive=True)
        assert len(family) >= 2
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        for child in process.children(recursive=True) if process.is_running() else ():
            child.kill()
    told = _text(tmp_path / "log")
    assert "Passed: " in told
    assert told.rstrip().endswith("Interrupted.")
    assert json.loads(_text(output / "summary.json"))["failures"] == []
    assert (output / "report.html").exists()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
