"""What a scrape of a real server returns."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from churn_serving.telemetry.reporting import REFRESH_SECONDS
from tests.bad_requests import BATCH, CUSTOMER, PREDICT, PREDICT_V1
from tests.system.conftest import Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast lane", "native lane"])
def server(
    request: pytest.FixtureRequest, models: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    env = {
        "CHURN_MODEL_TAG": models["logistic"],
        "CHURN_WORKERS": "2",
        "CHURN_FAST_LANE": request.param,
    }
    with serving("service.py:ChurnService", tmp_path_factory.mktemp("serve") / "log", env=env) as s:
        yield s


def scrape(server: Server) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every sample, once all processes have written theirs."""
    time.sleep(REFRESH_SECONDS * 1.5)
    text = httpx2.get(f"{server.url}/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str) -> float:
    """Return the sample written as Prometheus writes it: ``name{label="value"}``."""
    labels = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', name)))
    return samples.get((name.partition("{")[0], labels), 0.0)


def test_both_workers_count_what_was_asked(server: Server) -> None:
    before = scrape(server)
    # A new connection each time, so that both workers get their share.
    for _ in range(20):
        assert httpx2.post(server.url + PREDICT, json=CUSTOMER).status_code == 200
        assert httpx2.post(server.url + PREDICT_V1, json=CUSTOMER).status_code == 200
        batch = {"items": [CUSTOMER] * 10}
        assert httpx2.post(server.url + BATCH, json=batch).status_code == 200
        assert httpx2.post(server.url + PREDICT, json={}).status_code == 422
    after = scrape(server)

    def grown(name: str) -> float:
        return value(after, name) - value(before, name)

    version = [
        dict(labels)["model_version"]
        for name, labels in after
        if name == "ml_predictions_total" and ("outcome", "churn") in labels
    ]
    assert len(version) == 1
    label = f'model_version="{version[0]}"'
    assert grown(f'ml_predictions_total{{{label},outcome="churn"}}') == 20 * 12
    assert grown(f'ml_predictions_total{{{label},outcome="no_churn"}}') == 0
    assert grown("ml_inference_duration_seconds_count") == 60
    assert grown("ml_batch_size_sum") == 20 * 12
    assert grown('ml_batch_size_bucket{le="1.0"}') == 40
    for route, status, count in (
        (PREDICT, 200, 20),
        (PREDICT, 422, 20),
        (PREDICT_V1, 200, 20),
        (BATCH, 200, 20),
    ):
        series = f'http_request_duration_seconds_count{{route="{route}",status="{status}"}}'
        assert grown(series) == count
    errors = f'ml_errors_total{{endpoint="{PREDICT}",error_type="ValidationFailedError"}}'
    assert grown(errors) == 20
    for gauge in ("ml_workers", "ml_workers_live", "ml_workers_ready"):
        assert value(after, gauge) == 2, gauge
    assert value(after, "ml_churn_rate_rolling{" + label + "}") == 1
    assert value(after, "process_resident_memory_bytes") > 2 * 50e6


def test_a_scan_of_random_paths_adds_one_series(server: Server) -> None:
    def routes() -> set[str]:
        return {dict(labels).get("route", "") for _, labels in scrape(server)}

    with httpx2.Client(base_url=server.url) as client:
        client.get("/scan")
        before = routes()
        for index in range(500):
            assert client.get(f"/scan/{index}").status_code == 404
    assert routes() == before
