"""The HTTP contract."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import bentoml
import pytest
from starlette.testclient import TestClient

from churn_serving.features.rows import customer_row, feature_matrix
from churn_serving.http.api import ENDPOINTS
from churn_serving.http.api.v2 import POLICY
from churn_serving.schema import Customer
from tests.bad_requests import (
    BATCH,
    CUSTOMER,
    ECHO,
    JSON,
    OVER_HTTP,
    PREDICT,
    PREDICT_V1,
    BadRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from churn_serving.model.artifact import Artifact


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


STAYER = CUSTOMER | {
    "tenure_months": 70,
    "monthly_charges": 25,
    "total_charges": 1750.0,
    "has_internet": False,
    "contract_type": "two-year",
    "payment_method": "credit",
}


def expected_churn(artifact: Artifact, customer: dict[str, Any]) -> float:
    """What scikit-learn itself says."""
    row = customer_row(Customer.model_validate(customer))
    pipeline = bentoml.sklearn.load_model(artifact.tag)
    return float(pipeline.predict_proba(feature_matrix([row]))[0, 1])


@pytest.mark.parametrize("customer", [CUSTOMER, STAYER])
def test_predict_agrees_with_scikit_learn(
    client: TestClient, artifact: Artifact, customer: dict[str, Any]
) -> None:
    answer = client.post(PREDICT, json=customer)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    churn = expected_churn(artifact, customer)
    assert answer.json() == {
        "churn_prediction": int(churn >= artifact.threshold),
        "churn_probability": pytest.approx(churn, abs=1e-9),
        "model_tag": artifact.tag,
    }


@pytest.mark.parametrize("customer", [CUSTOMER, STAYER])
def test_predict_v1_agrees_with_scikit_learn(
    client: TestClient, artifact: Artifact, customer: dict[str, Any]
) -> None:
    answer = client.post(PREDICT_V1, json=customer).json()
    churn = expected_churn(artifact, customer)
    assert answer.pop("inference_time_ms") >= 0
    assert answer == {
        "prediction": int(churn >= artifact.threshold),
        "probability": {
            "no_churn": pytest.approx(1 - churn, abs=1e-9),
            "churn": pytest.approx(churn, abs=1e-9),
        },
        "model_version": artifact.tag.partition(":")[2],
    }


@pytest.mark.parametrize("size", [1, 2, 100])
def test_batch_answers_each_item_in_order(
    client: TestClient, artifact: Artifact, size: int
) -> None:
    customers = [CUSTOMER | {"tenure_months": index} for index in range(size)]
    answer = client.post(BATCH, json={"items": customers}).json()
    assert set(answer) == {"results", "batch_size", "total_inference_time_ms"}
    assert answer["batch_size"] == size
    for index, (customer, result) in enumerate(zip(customers, answer["results"], strict=True)):
        churn = expected_churn(artifact, customer)
        assert set(result) == {"prediction", "probability", "batch_index"}
        assert result["batch_index"] == index
        assert result["probability"]["churn"] == pytest.approx(churn, abs=1e-9)
        assert result["prediction"] == int(churn >= artifact.threshold)


def test_batch_makes_one_model_call(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    runner = service.RUNTIME.state.predictor.runner
    score_rows = runner.score_rows

    async def counted(rows: list[Any]) -> list[float]:
        calls.append(len(rows))
        scores: list[float] = await score_rows(rows)
        return scores

    monkeypatch.setattr(runner, "score_rows", counted)
    assert client.post(BATCH, json={"items": [CUSTOMER] * 100}).status_code == 200
    assert calls == [100]


@pytest.mark.parametrize("bad", OVER_HTTP, ids=str)
def test_refuses(client: TestClient, bad: BadRequest) -> None:
    answer = client.post(bad.path, content=bad.body, headers=bad.headers)
    assert answer.status_code == bad.status
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "detail"}
    assert body["error"].endswith(".")
    assert all(set(failure) == {"loc", "msg", "type"} for failure in body["detail"])
    if bad.loc is not None:
        assert list(bad.loc) in [failure["loc"] for failure in body["detail"]]
    assert ECHO not in answer.text


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"]
)
def test_accepts_json_however_it_is_spelt(client: TestClient, content_type: str) -> None:
    headers = {"content-type": content_type}
    answer = client.post(PREDICT, content=as_json(CUSTOMER), headers=headers)
    assert answer.status_code == 200


def test_refuses_a_body_over_the_limit(client: TestClient) -> None:
    body = as_json(CUSTOMER) + b" " * 128 * 1024
    answer = client.post(PREDICT, content=body, headers=JSON)
    assert answer.status_code == 413
    assert answer.json() == {
        "error": "The request body is larger than 131072 bytes.",
        "detail": [],
    }


def test_an_unknown_path_is_a_404_in_the_contract(client: TestClient) -> None:
    answer = client.get("/nowhere")
    assert (answer.status_code, set(answer.json())) == (404, {"error", "detail"})


def test_a_wrong_method_is_a_405_that_says_what_is_allowed(client: TestClient) -> None:
    answer = client.get(PREDICT)
    assert (answer.status_code, set(answer.json())) == (405, {"error", "detail"})
    assert answer.headers["allow"] == "POST"


def raise_an_error(_: object) -> float:
    raise RuntimeError("no internals")


def return_nan(_: object) -> float:
    return float("nan")


@pytest.mark.parametrize("fault", [raise_an_error, return_nan])
def test_a_failing_model_shows_no_internals(
    client: TestClient,
    service: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[object], float],
) -> None:
    monkeypatch.setattr(service.RUNTIME.state.predictor.runner._scorer, "score_row", fault)
    answer = client.post(PREDICT, json=CUSTOMER)
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "An unexpected error happened; the server's log has it.",
        "detail": [],
    }


def test_answers_503_and_when_to_retry_while_no_model_is_loaded(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.RUNTIME.state, "predictor", None)
    answer = client.post(PREDICT, json=CUSTOMER)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert set(answer.json()) == {"error", "detail"}


@pytest.mark.parametrize("path", ["/docs"])
def test_documentation_needs_nothing_from_the_internet(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert client.get(f"/static_content/{asset}").status_code == 200


@pytest.mark.parametrize("path", ["/docs"])
def test_documentation_is_found_below_any_prefix(client: TestClient, path: str) -> None:
    names = re.findall(r'(?:href|src)="([^"]+)"|url: "([^"]+)"', client.get(path).text)
    named = {one or other for one, other in names}
    assert len(named) == 5
    for name in named:
        # Relative to the page, and there.
        assert not name.startswith("/")
        assert client.get(f"/{name}").status_code == 200


@pytest.mark.parametrize(
    ("header", "url"),
    [
        (None, "."),
        ("/churn", "/churn"),
        ("/ml/churn-v1.2/", "/ml/churn-v1.2"),
        *((bad, ".") for bad in ("", "/", "churn", "//evil.example", "https://evil.example")),
        *((bad, ".") for bad in ("/a//b", "/a/../b", "/.", "/..", "/a, /b", "/a?b", "/a#b")),
        *((bad, ".") for bad in ("/a%2f", "/a b", "/<evil>", '/"', "/\\evil", "/" + 300 * "a")),
    ],
)
def test_the_openapi_document_names_the_prefix_that_a_proxy_announces(
    client: TestClient, header: str | None, url: str
) -> None:
    headers = {"Host": "evil.example", **({} if header is None else {"X-Forwarded-Prefix": header})}
    answer = client.get("/openapi.json", headers=headers)
    assert answer.json()["servers"] == [{"url": url}]
    assert answer.headers["vary"] == "X-Forwarded-Prefix"
    assert "evil" not in answer.text


def test_the_openapi_document_names_the_path_it_is_mounted_at(client: TestClient) -> None:
    mounted = TestClient(client.app, root_path="/mounted")
    document = mounted.get("/openapi.json").json()
    assert document["servers"] == [{"url": "/mounted"}]


def test_the_openapi_document_describes_the_routes(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {*ENDPOINTS, POLICY}
    for path in ENDPOINTS:
        assert {"200", "400", "413", "415", "422", "429", "500", "503", "504"} <= set(
            document["paths"][path]["post"]["responses"]
        )
    assert set(document["paths"][POLICY]["get"]["responses"]) == {"200", "401"}
    customer = document["components"]["schemas"]["Customer"]
    assert set(customer["required"]) == set(CUSTOMER)
    assert customer["additionalProperties"] is False
    assert customer["properties"]["tenure_months"]["maximum"] == 120
