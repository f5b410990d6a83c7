"""Access log and tracing, the latter tried against a stand-in for a collector."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Final

import httpx2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.bad_requests import CUSTOMER, PREDICT
from tests.system.conftest import serving

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import Span


CALLERS_OWN: Final = "Smith-4711"


def test_spans_reach_the_collector_and_lines_the_log(
    models: dict[str, str], tmp_path: Path
) -> None:
    spans: list[Span] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    collector = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    try:
        env = {
            "CHURN_MODEL_TAG": models["logistic"],
            "CHURN_TRACING": "true",
            "CHURN_ACCESS_LOG": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        with serving("service.py:ChurnService", tmp_path / "log", env=env) as server:
            start = time.perf_counter()
            answers = [httpx2.post(server.url + PREDICT, json=CUSTOMER) for _ in range(3)]
            took_ms = 1e3 * (time.perf_counter() - start)
            httpx2.get(
                f"{server.url}/{CALLERS_OWN}?name={CALLERS_OWN}", headers={"x-name": CALLERS_OWN}
            )
        assert {answer.status_code for answer in answers} == {200}
        ids = [answer.headers["x-request-id"] for answer in answers]
        # Stopping the server has sent what was left.
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
    assert [span.name for span in spans].count(f"POST {PREDICT}") == 3
    # Neither the query, nor a path of the caller's own making, nor who called.
    told = str(spans)
    assert CALLERS_OWN not in told
    assert not {a.key for span in spans for a in span.attributes} & {
        "net.peer.ip",
        "client.address",
    }
    assert CALLERS_OWN not in server.log.read_text()
    # Not a terminal, so each line is JSON, whoever wrote it.
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    requests = [line for line in lines if line.get("route") == PREDICT]
    assert [line["request_id"] for line in requests] == ids
    for line in requests:
        assert (line["message"], line["method"], line["status"]) == ("Request", "POST", 200)
        assert 0 < line["ms"] < took_ms
    (traffic,) = [line for line in lines if line["message"] == "Traffic"]
    assert traffic["customers"] == 3


def test_a_collector_that_hangs_does_not_hold_up_the_end(
    models: dict[str, str], tmp_path: Path
) -> None:
    """The server ends while the collector still says nothing; ``serving`` waits for the end."""
    with socket.create_server(("127.0.0.1", 0)) as collector:
        env = {
            "CHURN_MODEL_TAG": models["logistic"],
            "CHURN_TRACING": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.getsockname()[1]}",
            # Its own patience is longer than that of the test.
            "OTEL_EXPORTER_OTLP_TIMEOUT": "600",
        }
        with serving("service.py:ChurnService", tmp_path / "log", env=env) as server:
            assert httpx2.post(server.url + PREDICT, json=CUSTOMER).status_code == 200
    assert "The last spans were not sent" in server.log.read_text()
