"""The fast and the native lane side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from tests.bad_requests import BAD_REQUESTS, BATCH, CUSTOMER, PREDICT, PREDICT_V1

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import ModuleType

    import httpx2
    from starlette.types import ASGIApp


@pytest.fixture(scope="module")
def clients(
    lanes: dict[str, ASGIApp], running: Callable[[ASGIApp], AbstractContextManager[TestClient]]
) -> Iterator[tuple[TestClient, TestClient]]:
    """Two clients of one running application."""
    with running(lanes["fast"]) as fast:
        yield fast, TestClient(lanes["native"], raise_server_exceptions=False)


def test_both_lanes_refuse_with_the_same_bytes(clients: tuple[TestClient, TestClient]) -> None:
    for bad in BAD_REQUESTS:
        fast, native = (
            client.post(bad.path, content=bad.body, headers=bad.headers) for client in clients
        )
        assert fast.status_code == native.status_code == bad.status, bad
        assert fast.content == native.content, bad


def test_both_lanes_answer_alike(clients: tuple[TestClient, TestClient]) -> None:
    def answers(path: str, body: object) -> list[httpx2.Response]:
        return [client.post(path, json=body) for client in clients]

    for path, body in (
        (PREDICT, CUSTOMER),
        (PREDICT_V1, CUSTOMER),
        (BATCH, {"items": [CUSTOMER] * 100}),
    ):
        fast, native = answers(path, body)
        assert fast.status_code == native.status_code == 200
        timeless = [
            {key: value for key, value in answer.json().items() if not key.endswith("_time_ms")}
            for answer in (fast, native)
        ]
        assert timeless[0] == timeless[1]


def test_a_failing_model_is_counted(
    clients: tuple[TestClient, TestClient], service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = service.STATE.predictor.runner._scorer
    monkeypatch.setattr(scorer, "score_row", lambda _: float("nan"))
    sample = f'ml_errors_total{{endpoint="{PREDICT}",error_type="ScoringError"}}'

    def count() -> float:
        lines = clients[0].get("/metrics").text.splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith(sample))

    before = count()
    for client in clients:
        assert client.post(PREDICT, json=CUSTOMER).status_code == 500
    assert count() == before + 2


def test_an_error_behind_bentoml_is_answered_in_the_contract(
    clients: tuple[TestClient, TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("no internals")

    monkeypatch.setattr("churn_serving.http.observability.exposition", fail)
    for client in clients:
        answer = client.get("/metrics")
        assert answer.status_code == 500
        assert set(answer.json()) == {"error", "detail"}
        assert "no internals" not in answer.text


def test_an_unexpected_error_in_the_fast_lane_is_answered_in_the_contract(
    clients: tuple[TestClient, TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> bytes:
        raise RuntimeError("no internals")

    monkeypatch.setattr("churn_serving.http.fast_lane.to_json", fail)
    answer = clients[0].post(PREDICT, json=CUSTOMER)
    assert answer.status_code == 500
    assert set(answer.json()) == {"error", "detail"}
    assert "no internals" not in answer.text
