"""Access log and tracing, the latter tried against a stand-in for a collector."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import httpx2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.bad_requests import CUSTOMER, PREDICT
from tests.system.conftest import serving

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
            answers = [httpx2.post(server.url + PREDICT, json=CUSTOMER) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        ids = [answer.headers["x-request-id"] for answer in answers]
        # Stopping the server has sent what was left.
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
    assert spans.count(f"POST {PREDICT}") == 3
    # Not a terminal, so each line is JSON, whoever wrote it.
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    requests = [line for line in lines if line.get("path") == PREDICT]
    assert [line["request_id"] for line in requests] == ids
    for line in requests:
        assert (line["message"], line["method"], line["status"]) == ("Request", "POST", 200)
        assert 0 < line["ms"] < 1000
    (traffic,) = [line for line in lines if line["message"] == "Traffic"]
    assert traffic["customers"] == 3
