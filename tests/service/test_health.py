"""What the probes say, in every phase of the service's life."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from churn_serving.inference.resilience import HALF_OPEN, OPEN, BreakerState
from churn_serving.telemetry.process import Siblings
from tests.bad_requests import CUSTOMER, PREDICT

if TYPE_CHECKING:
    from types import ModuleType

    from starlette.testclient import TestClient

LIVENESS, READINESS = "/health", "/health/ready"
BENTOML_LIVENESS, BENTOML_READINESS = "/livez", "/readyz"


class OneIsMissing(Siblings):
    """The other workers, one of them dead for long."""

    @property
    def one_is_missing(self) -> bool:
        return True


def _set(service: ModuleType, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(service.RUNTIME.state, name, value)


def _readiness(client: TestClient) -> tuple[int, dict[str, Any]]:
    """Return what readiness says; BentoML's own probe must agree."""
    answer = client.get(READINESS)
    assert client.get(BENTOML_READINESS).status_code == answer.status_code
    if answer.status_code == 503:
        assert answer.headers["retry-after"] == "1"
    body: dict[str, Any] = answer.json()
    return answer.status_code, body


def _is_alive(client: TestClient) -> bool:
    """Return what liveness says; BentoML's own probe must agree."""
    answer = client.get(LIVENESS)
    assert client.get(BENTOML_LIVENESS).status_code == answer.status_code
    return answer.status_code == 200


def test_a_live_process_says_since_when(client: TestClient, service: ModuleType) -> None:
    assert _is_alive(client)
    body = client.get(LIVENESS).json()
    assert set(body) == {"status", "timestamp", "uptime_seconds"}
    assert body["status"] == "alive"
    assert datetime.now(UTC) - datetime.fromisoformat(body["timestamp"]) < timedelta(seconds=5)
    started = datetime.fromtimestamp(service.RUNTIME.state.process.started, UTC)
    uptime = (datetime.now(UTC) - started).total_seconds()
    assert body["uptime_seconds"] == pytest.approx(uptime, abs=2)


def test_ready_it_says_what_it_has_loaded(client: TestClient, service: ModuleType) -> None:
    status, body = _readiness(client)
    assert status == 200
    assert body.pop("model_load_time_seconds") > 0
    assert 10 < body.pop("memory_usage_mb") < 10_000
    assert body.pop("cpu_percent") >= 0
    assert body == {
        "status": "ready",
        "model_loaded": True,
        "model_version": service.RUNTIME.model.version,
    }


def test_before_the_model_is_loaded_it_is_alive_and_not_ready(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(service, monkeypatch, predictor=None, model_load_seconds=None)
    status, body = _readiness(client)
    assert (status, body["status"], body["model_loaded"]) == (503, "loading", False)
    assert body["model_load_time_seconds"] is None
    assert "reason" not in body
    assert _is_alive(client)
    answer = client.post(PREDICT, json=CUSTOMER)
    assert answer.status_code == 503
    assert answer.json() == {"error": "The model is not loaded.", "detail": []}


def test_with_a_model_that_cannot_be_loaded_it_is_alive_and_says_why_it_is_not_ready(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "The model 'churn:v1' cannot be loaded: MemoryError"
    _set(service, monkeypatch, predictor=None, failure=reason)
    status, body = _readiness(client)
    assert (status, body["status"], body["model_loaded"]) == (503, "failed", False)
    assert body["reason"] == reason
    assert _is_alive(client)
    answer = client.post(PREDICT, json=CUSTOMER)
    assert answer.status_code == 503
    assert answer.json() == {"error": reason, "detail": []}
    assert answer.headers["retry-after"] == "1"


def test_while_it_drains_it_answers_but_is_not_ready(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(service, monkeypatch, draining=True)
    status, body = _readiness(client)
    assert (status, body["status"], body["model_loaded"]) == (503, "draining", True)
    assert _is_alive(client)
    assert client.post(PREDICT, json=CUSTOMER).status_code == 200


def test_a_draining_service_is_draining_whatever_else_it_is(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(service, monkeypatch, draining=True, predictor=None, failure="Broken.")
    assert _readiness(client)[1]["status"] == "draining"


def test_without_the_service_that_runs_the_model_it_is_degraded(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(service, monkeypatch, runner_reachable=False)
    status, body = _readiness(client)
    assert (status, body["status"], body["model_loaded"]) == (503, "degraded", True)
    assert _is_alive(client)


# Half open it waits for somebody to try the model: without readiness nobody would ever come.
@pytest.mark.parametrize(
    ("breaker", "fails_readiness", "phase"),
    [
        (OPEN, False, "ready"),
        (OPEN, True, "degraded"),
        (HALF_OPEN, False, "ready"),
        (HALF_OPEN, True, "ready"),
    ],
)
def test_an_open_breaker_is_no_readiness_if_the_operator_says_so(
    client: TestClient,
    service: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    breaker: BreakerState,
    *,
    fails_readiness: bool,
    phase: str,
) -> None:
    monkeypatch.setattr(service.RUNTIME.state.predictor.runner.breaker, "state", breaker)
    _set(service, monkeypatch, breaker_fails_readiness=fails_readiness)
    status, body = _readiness(client)
    assert body["status"] == phase
    assert (status == 200) == (phase == "ready")
    assert _is_alive(client)


def test_an_open_breaker_is_a_503_that_says_when_to_come_again(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = service.RUNTIME.state.predictor.runner
    breaker = service.RUNTIME._runner_options()["breaker"]
    for _ in range(20):
        breaker.failed(breaker._clock())
    monkeypatch.setattr(runner, "breaker", breaker)
    answer = client.post(PREDICT, json=CUSTOMER)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json() == {
        "error": "The model has failed too often and is left alone for a moment.",
        "detail": [],
    }


def test_a_dead_sibling_is_the_end_of_liveness_and_not_of_readiness(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(service, monkeypatch, siblings=OneIsMissing(expected=2))
    assert not _is_alive(client)
    assert client.get(LIVENESS).json()["status"] == "a worker is dead"
    assert _readiness(client)[0] == 200
    assert client.post(PREDICT, json=CUSTOMER).status_code == 200


@pytest.mark.parametrize("path", [LIVENESS, READINESS])
def test_a_probe_may_ask_for_the_header_only(client: TestClient, path: str) -> None:
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_an_open_breaker_gives_readiness_back_when_it_is_time_to_try_the_model(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = service.RUNTIME.state.predictor.runner.breaker
    monkeypatch.setattr(breaker, "state", OPEN)
    monkeypatch.setattr(breaker, "_next_probe", 0.0)
    _set(service, monkeypatch, breaker_fails_readiness=True)
    assert _readiness(client)[0] == 200


def test_a_model_that_hangs_is_no_readiness(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.RUNTIME.state.predictor.runner, "hangs", True)
    status, body = _readiness(client)
    assert (status, body["status"]) == (503, "degraded")
    assert _is_alive(client)
