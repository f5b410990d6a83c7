"""Access log and tracing, the latter tried against a stand-in for a collector."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import httpx2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.bad_requests import CUSTOMER, PREDICT
from tests.e2e.conftest import serving

if TYPE_CHECKING:
    from pathlib import Path


def test_spans_reach_the_collector_and_lines_the_log(
    models: dict[str, str], tmp_path: Path
) -> None:
    spans: list[str] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span.name for scope in resource.scope_spans for span in scope.spans)
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
            for _ in range(3):
                assert httpx2.post(server.url + PREDICT, json=CUSTOMER).status_code == 200
        # Stopping the server has sent what was left.
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
    assert spans.count(f"POST {PREDICT}") == 3
    lines = [line for line in server.log.read_text().splitlines() if f"POST {PREDICT} 200" in line]
    assert len(lines) == 3
