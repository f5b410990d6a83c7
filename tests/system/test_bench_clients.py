"""The clients of the bench tell good answers from bad ones."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from bench.load.overload import CONNECTIONS, overload
from bench.load.pacer import pace
from bench.load.stop import CALLERS, stop_under_load
from bench.load.wrk import Stream, saturate
from bench.process import launched
from tests.tools import free_port, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.process import Running

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
        time.sleep({"/slow": 0.3, "/slower": 20}.get(self.path, 0))
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
    monkeypatch.setattr("bench.process.STOP_SECONDS", 1)
    port = free_port()
    with launched(
        "a server",
        [sys.executable, "-c", SERVER, str(port), request.param],
        port=port,
        environment=os.environ,
        folder=tmp_path,
        log=tmp_path / "log",
        is_ready=lambda here: here.post("/", b"{}"),
    ) as here:
        yield here


@pytest.mark.parametrize("server", ["graceful"], indirect=True)
def test_an_overload_counts_each_status(server: Running) -> None:
    tool("h2load")
    seen = overload(server, "/half", b"{}", capacity=200, seconds=2)
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
    seen = stop_under_load(server, "/slower", b"{}")
    assert seen.in_flight == seen.lost == CALLERS
    assert seen.exit_code == 3


@pytest.mark.parametrize("server", ["deaf"], indirect=True)
def test_a_server_that_does_not_stop_is_waited_for_in_vain(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.load.stop.PATIENCE_SECONDS", 2)
    seen = stop_under_load(server, "/slow", b"{}")
    assert seen.seconds is None
    assert seen.exit_code is None
    assert seen.lost == 0


@pytest.mark.parametrize("server", ["graceful"], indirect=True)
def test_a_fixed_rate_counts_answers_and_errors(server: Running, tmp_path: Path) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"{}\n[]\n")
    good, half = (
        pace(server, path, bodies, rate=100, seconds=2, warm_up=0.5, connections=8)
        for path in ("/", "/half")
    )
    assert (good.answers, good.errors) == (200, 0)
    assert 0 < good.p50_ms <= good.p99_ms
    # All that were sent, those of the warm-up too: this server refuses every other request.
    assert half.answers == 200
    assert half.errors == 125


@pytest.mark.parametrize("server", ["graceful"], indirect=True)
def test_a_server_that_is_too_slow_for_a_rate_does_not_sustain_it(
    server: Running, tmp_path: Path
) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"{}\n")
    # Two connections, of which each takes 0.3 s: less than seven requests a second.
    seen = pace(server, "/slow", bodies, rate=20, seconds=3, warm_up=0, connections=2)
    assert not seen.sustained
    assert seen.p99_ms > 1000


@pytest.mark.parametrize("server", ["graceful"], indirect=True)
def test_saturation_counts_bad_answers(server: Running, tmp_path: Path) -> None:
    tool("wrk")
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"{}\n[]\n")
    seen = saturate(server, "/half", bodies, connections=4, seconds=1)
    assert seen.errors == pytest.approx(seen.requests / 2, rel=0.1)
    assert seen.cpu_us > 0


@pytest.mark.parametrize("server", ["graceful"], indirect=True)
def test_a_stream_goes_on_while_something_else_is_measured(server: Running, tmp_path: Path) -> None:
    tool("wrk")
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"{}\n")
    with Stream(server, "/half", bodies, seconds=1) as stream:
        assert stream.is_alive()
    assert stream.sample.requests > 0
    assert not stream.is_alive()
