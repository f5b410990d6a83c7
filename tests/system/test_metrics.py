"""What a scrape of a real server returns."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, TypeAlias

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.bad_requests import BATCH, CUSTOMER, PREDICT, PREDICT_V1
from tests.system.conftest import Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    Samples: TypeAlias = dict[tuple[str, tuple[tuple[str, str], ...]], float]

PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def server(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"CHURN_MODEL_TAG": models["logistic"], "CHURN_WORKERS": "2"}
    with serving("service.py:ChurnService", tmp_path_factory.mktemp("serve") / "log", env=env) as s:
        yield s


def scrape(server: Server, name: str, least: float) -> Samples:
    """Return every sample, once one has come so far: workers tell each other once a second."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        text = httpx2.get(f"{server.url}/metrics").text
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        if value(samples, name) >= least:
            return samples
        time.sleep(0.2)
    pytest.fail(f"{name} did not reach {least}")


def value(samples: Samples, name: str) -> float:
    """Return the sample written as Prometheus writes it: ``name{label="value"}``."""
    labels = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', name)))
    return samples.get((name.partition("{")[0], labels), 0.0)


def test_both_workers_count_what_was_asked(server: Server) -> None:
    before = scrape(server, "ml_workers_ready", 2)
    # A new connection each time, so that both workers get their share.
    for _ in range(20):
        assert httpx2.post(server.url + PREDICT, json=CUSTOMER).status_code == 200
        assert httpx2.post(server.url + PREDICT_V1, json=CUSTOMER).status_code == 200
        batch = {"items": [CUSTOMER] * 10}
        assert httpx2.post(server.url + BATCH, json=batch).status_code == 200
        assert httpx2.post(server.url + PREDICT, json={}).status_code == 422
    sent = [
        f'http_request_duration_seconds_count{{route="{route}",status="{status}"}}'
        for route, status in ((PREDICT, 200), (PREDICT, 422), (PREDICT_V1, 200), (BATCH, 200))
    ]
    for series in sent:
        after = scrape(server, series, value(before, series) + 20)

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
    for series in sent:
        assert grown(series) == 20
    errors = f'ml_errors_total{{endpoint="{PREDICT}",error_type="ValidationFailedError"}}'
    assert grown(errors) == 20
    for gauge in ("ml_workers", "ml_workers_live", "ml_workers_ready"):
        assert value(after, gauge) == 2, gauge
    assert value(after, "ml_churn_rate_rolling{" + label + "}") == 1
    assert value(after, "process_resident_memory_bytes") > 2 * 50e6


def test_a_scan_of_random_paths_adds_one_series(server: Server) -> None:
    def routes(least: float) -> set[str]:
        return {dict(labels).get("route", "") for _, labels in scrape(server, other, least)}

    other = 'http_request_duration_seconds_count{route="other",status="404"}'
    with httpx2.Client(base_url=server.url) as client:
        client.get("/scan")
        before = routes(1) | {"/metrics"}
        for index in range(500):
            assert client.get(f"/scan/{index}").status_code == 404
    assert routes(501) == before
