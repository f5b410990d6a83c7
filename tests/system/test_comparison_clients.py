"""The clients of the comparison tell good answers from bad ones."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.frameworks.overload import CONNECTIONS, overload
from benchmarks.frameworks.stop import stop_under_load
from benchmarks.process import launched
from tests.tools import free_port, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.process import Running

SERVER = """
import signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answered = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        Handler.answered += 1
        status = 503 if self.path == "/half" and Handler.answered % 2 else 200
        time.sleep(0.3 if self.path == "/slow" else 0)
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass

class Server(ThreadingHTTPServer):
    daemon_threads = sys.argv[2] == "abrupt"
    request_queue_size = 1024

server = Server(("127.0.0.1", int(sys.argv[1])), Handler)

def stop(*_):
    if sys.argv[2] == "abrupt":
        raise SystemExit(3)
    if sys.argv[2] == "graceful":
        threading.Thread(target=server.shutdown).start()

signal.signal(signal.SIGTERM, stop)
server.serve_forever()
"""


@pytest.fixture
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    monkeypatch.setattr("benchmarks.process.STOP_SECONDS", 1)
    port = free_port()
    with launched(
        "a server",
        [sys.executable, "-c", SERVER, str(port), request.param],
        port=port,
        environment={},
        folder=tmp_path,
        cpus={0, 1},
        log=tmp_path / "log",
        is_ready=lambda here: here.post("/", b"{}"),
    ) as here:
        yield here


@pytest.mark.parametrize("server", ["graceful"], indirect=True)
def test_an_overload_counts_each_status(server: Running, tmp_path: Path) -> None:
    tool("h2load")
    seen = overload(server, "/half", capacity=200, seconds=2, body=b"{}", folder=tmp_path)
    assert seen.offered == 400
    assert set(seen.statuses) == {"200", "503"}
    good, bad = seen.statuses["200"], seen.statuses["503"]
    assert good == pytest.approx(bad, rel=0.1)
    # Each connection sends its first request at once.
    assert CONNECTIONS <= good + bad <= 2 * CONNECTIONS + 800
    assert seen.accepted == pytest.approx(good / 2)
    assert seen.p50_ms is not None
    assert seen.p99_ms is not None
    assert 0 < seen.p50_ms <= seen.p99_ms


@pytest.mark.parametrize("server", ["graceful"], indirect=True)
def test_a_stop_that_answers_loses_nothing(server: Running) -> None:
    seen = stop_under_load(server, "/slow", b"{}")
    assert seen.in_flight > 0
    assert seen.lost == 0
    assert seen.exit_code == 0
    assert seen.seconds is not None


@pytest.mark.parametrize("server", ["abrupt"], indirect=True)
def test_a_stop_that_does_not_answer_loses_what_was_in_flight(server: Running) -> None:
    seen = stop_under_load(server, "/slow", b"{}")
    # But for those that were answered in the same moment.
    assert seen.in_flight >= seen.lost > 0
    assert seen.exit_code == 3


@pytest.mark.parametrize("server", ["deaf"], indirect=True)
def test_a_server_that_does_not_stop_is_waited_for_in_vain(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.frameworks.stop.PATIENCE_SECONDS", 2)
    seen = stop_under_load(server, "/slow", b"{}")
    assert seen.seconds is None
    assert seen.exit_code is None
    assert seen.lost == 0
