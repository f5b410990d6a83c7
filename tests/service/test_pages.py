"""The metrics over HTTP."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from churn_serving.runtime import assemble
from churn_serving.telemetry.metrics import FAMILIES
from tests.bad_requests import BATCH, CUSTOMER, PREDICT

if TYPE_CHECKING:
    from types import ModuleType

    import pytest
    from starlette.testclient import TestClient

    from churn_serving.model.artifact import Artifact


def _scrape(client: TestClient) -> dict[str, float]:
    """Return the samples without labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if not sample.labels
    }


def test_a_scrape_has_all_that_one_worker_knows_from_the_start(client: TestClient) -> None:
    client.post(PREDICT, json=CUSTOMER)
    text = client.get("/metrics").text
    exposed = {family.name for family in text_string_to_metric_families(text)}
    # Nothing has failed, so no error has a name yet.
    assert set(FAMILIES) - exposed <= {"ml_errors"}


def test_a_scrape_is_of_this_moment(client: TestClient) -> None:
    before = _scrape(client)
    client.post(BATCH, json={"items": [CUSTOMER] * 7})
    after = _scrape(client)
    assert after["ml_batch_size_count"] == before["ml_batch_size_count"] + 1
    assert after["ml_batch_size_sum"] == before["ml_batch_size_sum"] + 7
    # The scrape itself is a request in flight.
    assert after["http_requests_in_flight"] == 1
    assert after["ml_workers_live"] == after["ml_workers_ready"] == 1
    assert after["ml_breaker_state"] == 0


def test_a_scrape_tells_that_a_worker_is_not_ready(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.RUNTIME.state, "draining", True)
    samples = _scrape(client)
    assert (samples["ml_workers_live"], samples["ml_workers_ready"]) == (1, 0)


def test_the_registered_model_is_described(
    client: TestClient, service: ModuleType, artifact: Artifact
) -> None:
    answer = client.get("/metrics/model")
    assert answer.status_code == 200
    body = answer.json()
    assert body["model_tag"] == artifact.tag
    assert body["model_version"] == artifact.tag.partition(":")[2]
    assert body["decision_threshold"] == artifact.threshold
    assert body["model_load_time_seconds"] > 0
    assert body.items() >= service.RUNTIME.model.metadata.items()


def test_a_model_cannot_describe_itself_as_another_than_is_served(
    service: ModuleType, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    lies = {"model_tag": "another:one", "decision_threshold": 0.999}
    manifest = artifact.manifest.model_copy(update={"metadata": {**artifact.metadata, **lies}})
    lying = dataclasses.replace(artifact, manifest=manifest)
    monkeypatch.setattr(assemble, "find_model", lambda *_: lying)
    shown = assemble.assemble(service.SETTINGS).state.model
    assert (shown["model_tag"], shown["decision_threshold"]) == (artifact.tag, artifact.threshold)
