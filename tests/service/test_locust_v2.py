"""What the load test asks v2 is answered as the load test wants it, by the real application."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from starlette.testclient import TestClient

CASES = 200
BATCHES = 20


@pytest.fixture(scope="module")
def load() -> Any:
    """The locustfile; importing it must not change this process's sockets and threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCUST_SKIP_MONKEY_PATCH", "1")
        module = importlib.import_module("locustfile")
    module.draw.seed(14)
    return module


def ask(load: Any, client: TestClient, path: str, body: Any) -> Any:
    answer = client.post(path, json=body)
    return load.read(answer.status_code, answer.headers, answer.content)


def test_any_customer_has_the_id_the_decision_and_the_reasons_that_are_checked(
    client: TestClient, load: Any
) -> None:
    for number in range(CASES):
        body = load.case(number)
        answer = ask(load, client, "/api/v2/predict", body)
        load.check_v2(answer, asked=body)
        assert (answer["reasons"] is None) == (body.get("max_reasons") == 0)


def test_any_batch_has_its_errors_in_place_and_the_ranking_that_is_checked(
    client: TestClient, load: Any
) -> None:
    refused = 0
    for _ in range(BATCHES):
        body = load.batch_of_cases()
        answer = ask(load, client, "/api/v2/predict/batch", body)
        load.check_batch_v2(answer, asked=body)
        refused += answer["totals"]["refused"]
    assert refused > 0


def test_the_policy_is_what_is_checked(client: TestClient, load: Any) -> None:
    answer = client.get("/api/v2/policy")
    load.check_policy(load.read(answer.status_code, answer.headers, answer.content))
