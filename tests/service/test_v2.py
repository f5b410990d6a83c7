"""The contract of ``/api/v2``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_serving.errors import ScoringError
from churn_serving.http.api.v2_batch import MAX_BATCH_BYTES, MAX_ITEMS
from churn_serving.model.policy import Policy
from churn_serving.telemetry.metrics import DECISIONS, EXPECTED_PROFIT, PREDICTIONS
from tests.bad_requests import CUSTOMER, ECHO, JSON, PREDICT, PREDICT_BATCH_V2, PREDICT_V2
from tests.doubles import count_of, sample_of

if TYPE_CHECKING:
    from types import ModuleType

    from starlette.testclient import TestClient

    from churn_serving.model.artifact import Artifact

POLICY: Final = Policy()
LOYAL: Final = CUSTOMER | {
    "tenure_months": 70,
    "monthly_charges": 25,
    "total_charges": 1750.0,
    "has_internet": False,
    "contract_type": "two-year",
    "payment_method": "credit",
}


def item(number: int, **changes: Any) -> dict[str, Any]:
    return {"customer_id": f"c-{number}", "customer": CUSTOMER | changes}


def predict(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(PREDICT_V2, json={"customer": CUSTOMER, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def batch(client: TestClient, items: list[Any], **fields: Any) -> dict[str, Any]:
    answer = client.post(PREDICT_BATCH_V2, json={"items": items, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("customer", [CUSTOMER, LOYAL])
def test_the_answer_has_the_probability_of_v0_and_what_the_policy_makes_of_it(
    client: TestClient, artifact: Artifact, customer: dict[str, Any]
) -> None:
    answer = predict(client, customer=customer, customer_id="7590-VHVEG")
    churn = client.post(PREDICT, json=customer).json()["churn_probability"]
    expected = POLICY.decide(churn)
    assert answer["churn_probability"] == churn
    assert answer["decision"] == expected._asdict()
    assert answer["customer_id"] == "7590-VHVEG"
    assert answer["model_version"] == artifact.version
    assert answer["policy_version"] == POLICY.version


def test_the_example_is_worth_a_contact_and_a_loyal_customer_is_not(client: TestClient) -> None:
    assert predict(client)["decision"]["action"] == "contact"
    assert predict(client, customer=LOYAL)["decision"]["action"] == "leave_alone"


def test_a_customers_own_value_counts(client: TestClient) -> None:
    poor, rich = (predict(client, customer_value=value)["decision"] for value in (11, 5000.0))
    assert (poor["action"], rich["action"]) == ("leave_alone", "contact")
    assert poor["threshold"] > rich["threshold"]
    assert poor["expected_profit"] < 0 < rich["expected_profit"]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_reasons_add_up_to_the_probability(client: TestClient, count: int) -> None:
    answer = predict(client, max_reasons=count)
    total = answer["baseline"] + sum(reason["impact"] for reason in answer["reasons"])
    assert 1 / (1 + math.exp(-total)) == pytest.approx(answer["churn_probability"], abs=1e-9)
    told = [reason for reason in answer["reasons"] if reason["code"] != "other"]
    assert len(told) == count
    sizes = [abs(reason["impact"]) for reason in told]
    assert sizes == sorted(sizes, reverse=True)
    fields = [name for reason in answer["reasons"] for name in reason["fields"]]
    assert sorted(fields) == sorted(CUSTOMER)


def test_with_no_reasons_asked_for_none_are_told(client: TestClient) -> None:
    answer = predict(client, max_reasons=0)
    assert answer["reasons"] is answer["baseline"] is None


@pytest.mark.parametrize("customer_id", ["A", "Ä ö-ß/7", 0, -5, 2**63 - 1, "x" * 64, None, "007"])
def test_an_id_comes_back_as_it_came(client: TestClient, customer_id: object) -> None:
    back = predict(client, customer_id=customer_id)["customer_id"]
    assert back == customer_id
    assert type(back) is type(customer_id)


@pytest.mark.parametrize(
    "customer_id",
    ["", "x" * 65, 1.5, True, [], {}, 2**63, -(2**63) - 1, "a\nb", "a\x00", "\u202eabc", "\u200b"],
)
def test_what_is_no_id_is_refused_once_and_not_repeated(
    client: TestClient, customer_id: object
) -> None:
    answer = client.post(PREDICT_V2, json={"customer": CUSTOMER, "customer_id": customer_id})
    assert answer.status_code == 422
    (detail,) = answer.json()["detail"]
    assert detail["loc"] == ["customer_id"]
    assert detail["msg"] == (
        "Input should be text of 1 to 64 printable characters, or a 64-bit integer"
    )


@pytest.mark.parametrize("months", [0, 1])
@pytest.mark.parametrize("given", [{}, {"total_charges": None}])
def test_the_total_may_be_left_out_in_the_first_month(
    client: TestClient, months: int, given: dict[str, None]
) -> None:
    without = {k: v for k, v in CUSTOMER.items() if k != "total_charges"}
    new = {**without, "tenure_months": months}
    answer = predict(client, customer=new | given)
    filled = predict(client, customer=new | {"total_charges": CUSTOMER["monthly_charges"]})
    assert answer == filled


def test_the_total_is_required_after_the_first_month(client: TestClient) -> None:
    without = {k: v for k, v in CUSTOMER.items() if k != "total_charges"}
    answer = client.post(PREDICT_V2, json={"customer": without})
    assert answer.status_code == 422
    (detail,) = answer.json()["detail"]
    assert detail["loc"] == ["customer", "total_charges"]
    assert detail["msg"] == "Input is required after the first month"


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"customer_value": 0}, ["customer_value"]),
        ({"customer_value": -1}, ["customer_value"]),
        ({"customer_value": "200"}, ["customer_value"]),
        ({"max_reasons": 8}, ["max_reasons"]),
        ({"max_reasons": -1}, ["max_reasons"]),
        ({"max_reasons": 2.5}, ["max_reasons"]),
        ({"what_if": 1}, ["what_if"]),
        ({"customer": None}, ["customer"]),
        ({"customer": {}}, ["customer", "tenure_months"]),
        ({ECHO: 1}, [ECHO]),
        ({"customer": {**CUSTOMER, "tenure_months": ECHO}}, ["customer", "tenure_months"]),
    ],
)
def test_a_bad_field_is_named(client: TestClient, fields: dict[str, Any], loc: list[str]) -> None:
    answer = client.post(PREDICT_V2, json={"customer": CUSTOMER, **fields})
    assert answer.status_code == 422
    assert loc in [detail["loc"] for detail in answer.json()["detail"]]
    assert ECHO not in answer.text.replace(json.dumps(loc), "")


@pytest.mark.parametrize("value", ["1e999", "Infinity", "NaN", "-1e999"])
def test_a_value_that_is_no_finite_number_is_refused(client: TestClient, value: str) -> None:
    body = json.dumps({"customer": CUSTOMER})[:-1] + f', "customer_value": {value}}}'
    assert client.post(PREDICT_V2, content=body, headers=JSON).status_code in {400, 422}


def test_a_batch_answers_each_item_as_if_it_were_alone(client: TestClient) -> None:
    items = [
        {**item(number, tenure_months=number), "customer_value": 50.0 + number, "max_reasons": 2}
        for number in range(2, 150)
    ]
    results = batch(client, items)["results"]
    for sent, answer in zip(items, results, strict=True):
        alone = client.post(PREDICT_V2, json=sent).json()
        # One call of the model for many adds up in another order.
        assert _rounded(answer) == _rounded(alone)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-9)
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def test_the_ranking_has_the_most_profitable_first_within_the_capacity(client: TestClient) -> None:
    items = [item(number, tenure_months=number % 40) for number in range(2, 302)]
    answer = batch(client, items, capacity=17)
    decisions = [result["decision"] for result in answer["results"]]
    worth = [n for n, d in enumerate(decisions) if d["action"] == "contact"]
    by_profit = sorted(worth, key=lambda n: (-decisions[n]["expected_profit"], n))
    assert answer["ranking"] == by_profit[:17]
    totals = answer["totals"]
    assert (totals["customers"], totals["refused"], totals["contacts"]) == (300, 0, 17)
    assert totals["expected_profit"] == pytest.approx(
        sum(decisions[n]["expected_profit"] for n in answer["ranking"])
    )
    probabilities = [answer["results"][n]["churn_probability"] for n in answer["ranking"]]
    assert totals["expected_cost"] == pytest.approx(sum(map(POLICY.expected_cost, probabilities)))


def test_the_ranking_keeps_to_the_budget(client: TestClient) -> None:
    answer = batch(client, [item(number) for number in range(50)], budget=40.0)
    assert 0 < answer["totals"]["contacts"] < 50
    assert answer["totals"]["expected_cost"] <= 40.0
    assert answer["ranking"] == sorted(answer["ranking"])  # all alike: by index


def test_what_the_ranking_costs_is_a_budget_that_is_enough_for_it(client: TestClient) -> None:
    for count in range(2, 40):
        items = [item(number, tenure_months=number % 40) for number in range(2, 2 + count)]
        free = batch(client, items)
        again = batch(client, items, budget=free["totals"]["expected_cost"])
        assert again["ranking"] == free["ranking"]


BAD: Final[dict[str, Any]] = {
    "null": None,
    "a number": 7,
    "text": ECHO,
    "a list": [CUSTOMER],
    "nothing": {},
    "a bare customer": CUSTOMER,
    "a bad field": {"customer": CUSTOMER | {"monthly_charges": ECHO}},
    "an unknown field": {"customer": CUSTOMER, ECHO: 1},
    "far too many fields": {"customer": {f"{ECHO}{n}": n for n in range(5000)}},
    "a value of 0": {"customer": CUSTOMER, "customer_value": 0},
    "an endless integer": {"customer": CUSTOMER | {"tenure_months": 10**40}},
    "a deep value": {"customer": CUSTOMER | {"tenure_months": [[[[[]]]]]}},
}


def test_a_bad_item_is_answered_in_its_place_and_spoils_no_others(client: TestClient) -> None:
    good = [item(number) for number in range(len(BAD))]
    mixed = [each for pair in zip(good, BAD.values(), strict=True) for each in pair]
    answer = batch(client, mixed)
    alone = batch(client, good)
    assert answer["results"][::2] == alone["results"]
    assert [place / 2 for place in answer["ranking"]] == alone["ranking"]
    for name, result in zip(BAD, answer["results"][1::2], strict=True):
        assert set(result) == {"error", "detail"}, name
        assert result["detail"], name
        assert ECHO not in json.dumps([detail["msg"] for detail in result["detail"]])
    assert answer["totals"]["refused"] == len(BAD)


def test_a_batch_of_nothing_but_bad_items_is_answered(client: TestClient) -> None:
    answer = batch(client, list(BAD.values()))
    assert answer["ranking"] == []
    assert answer["totals"] == {
        "customers": 0,
        "refused": len(BAD),
        "contacts": 0,
        "control": 0,
        "expected_profit": 0.0,
        "expected_cost": 0.0,
    }


def test_a_customer_is_contacted_once(client: TestClient) -> None:
    answer = batch(client, [item(1), item(2), item(1), {**item(0), "customer_id": None}] * 2)
    kinds = ["error" in result for result in answer["results"]]
    assert kinds == [False, False, True, False, True, True, True, False]
    assert answer["results"][2]["error"] == (
        "This customer_id is that of item 0, too; the first one is answered."
    )
    assert 2 not in answer["ranking"]


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"items": []}, ["items"]),
        ({"items": [{}] * (MAX_ITEMS + 1)}, ["items"]),
        ({"items": {}}, ["items"]),
        ({"items": None}, ["items"]),
        ({"capacity": 0}, ["capacity"]),
        ({"capacity": 1.5}, ["capacity"]),
        ({"capacity": True}, ["capacity"]),
        ({"budget": 0}, ["budget"]),
        ({"budget": "7"}, ["budget"]),
        ({"max_reasons": 3}, ["max_reasons"]),
        ({f"{n}": n for n in range(2000)}, []),
    ],
)
def test_a_bad_batch_is_refused_as_a_whole(
    client: TestClient, fields: dict[str, Any], loc: list[str]
) -> None:
    answer = client.post(PREDICT_BATCH_V2, json={"items": [item(1)], **fields})
    assert answer.status_code == 422
    assert loc in [detail["loc"] for detail in answer.json()["detail"]]


@pytest.mark.parametrize("part", [b"[[[[1]]]]", b'{"a":1}', b'{"customer":{"a":{"b":{}}}}'])
def test_a_megabyte_of_brackets_is_not_even_read(client: TestClient, part: bytes) -> None:
    body = b'{"items": [' + b",".join([part] * 50_000) + b"]}"
    answer = client.post(PREDICT_BATCH_V2, content=body[:MAX_BATCH_BYTES], headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["error"] == "The request body is no batch."


def test_an_id_may_be_made_of_brackets(client: TestClient) -> None:
    items = [{**item(0), "customer_id": f"{number:04d}" + "[{:" * 20} for number in range(1000)]
    assert batch(client, items)["totals"]["refused"] == 0


def test_of_an_item_with_many_faults_ten_are_told(client: TestClient) -> None:
    (result,) = batch(client, [{"customer": {f"x{number}": 1 for number in range(20)}}])["results"]
    assert result["error"] == "27 fields are missing or invalid."
    assert len(result["detail"]) == 10


@pytest.mark.parametrize("body", [b"", b"[1,", b'{"items": [nan]}', b"\xff", b"[" * 300])
def test_a_batch_that_is_no_json_is_answered_400(client: TestClient, body: bytes) -> None:
    answer = client.post(PREDICT_BATCH_V2, content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"] == "The request body is not valid JSON."


def test_what_would_become_half_a_million_objects_is_not_even_parsed(client: TestClient) -> None:
    nest = b"[" * 180 + b"]" * 180
    body = b'{"items": [%b]}' % b",".join([nest] * (MAX_BATCH_BYTES // 361 - 1))
    answer = client.post(PREDICT_BATCH_V2, content=body, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["msg"] == "Input has too many parts for a batch"


def test_a_batch_is_not_worked_on_longer_than_its_caller_waits(client: TestClient) -> None:
    body = {"items": [item(number) for number in range(MAX_ITEMS)]}
    hurried = {"X-Request-Timeout-Ms": "1"}
    answer = client.post(PREDICT_BATCH_V2, json=body, headers=hurried)
    assert answer.status_code == 504
    assert client.post(PREDICT_BATCH_V2, json=body).status_code == 200


def test_no_number_as_python_writes_it_spoils_nobody_elses_answer(client: TestClient) -> None:
    bad = [
        {"customer": CUSTOMER | {"total_charges": math.nan}},
        {"customer": CUSTOMER, "customer_value": math.inf},
        math.nan,
    ]
    body = json.dumps({"items": [item(1), *bad]})
    answer = client.post(PREDICT_BATCH_V2, content=body, headers=JSON)
    first, *others = answer.json()["results"]
    assert first["customer_id"] == "c-1"
    assert [other["detail"][0]["type"] for other in others] == [
        "finite_number",
        "finite_number",
        "object_type",
    ]
    body = json.dumps({"items": [item(1)], "budget": math.nan})
    assert client.post(PREDICT_BATCH_V2, content=body, headers=JSON).status_code == 422


def test_an_item_without_a_customer_is_told_so_as_if_it_were_alone(client: TestClient) -> None:
    alone = client.post(PREDICT_V2, json={"customer": None})
    assert batch(client, [{"customer": None}, item(1)])["results"][0] == alone.json()


def test_a_batch_may_have_a_megabyte_and_no_more(client: TestClient) -> None:
    body = json.dumps({"items": [item(number) for number in range(MAX_ITEMS)]}).encode()
    assert len(body) > 200_000  # more than other routes take
    filled = body + b" " * (MAX_BATCH_BYTES - len(body))
    assert client.post(PREDICT_BATCH_V2, content=filled, headers=JSON).status_code == 200
    assert client.post(PREDICT_BATCH_V2, content=filled + b" ", headers=JSON).status_code == 413
    assert client.post(PREDICT_V2, content=filled, headers=JSON).status_code == 413


def test_what_the_model_fails_on_is_answered_in_its_place(
    client: TestClient, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = service.RUNTIME.state.predictor.runner
    score_rows = runner.score_rows

    async def fails_on_some(rows: list[tuple[float, ...]]) -> list[float]:
        if any(row[0] == 13 for row in rows):
            raise ScoringError("The model failed to score this input.")
        scored: list[float] = await score_rows(rows)
        return scored

    monkeypatch.setattr(runner, "score_rows", fails_on_some)
    answer = batch(client, [item(number, tenure_months=number) for number in range(10, 16)])
    assert ["error" in result for result in answer["results"]] == [False] * 3 + [True] + [False] * 2
    alone = client.post(PREDICT_BATCH_V2, json={"items": [item(1, tenure_months=13)]})
    assert alone.status_code == 500


def test_the_policy_in_force_is_told_without_its_salt(client: TestClient) -> None:
    answer = client.get("/api/v2/policy").json()
    assert answer == {
        "policy": {
            "customer_value": 200.0,
            "offer_cost": 10.0,
            "contact_cost": 1.0,
            "acceptance": 0.3,
            "control_share": 0.0,
        },
        "policy_version": POLICY.version,
        "threshold": pytest.approx(11 / 67),
    }


def test_decisions_are_counted_but_not_those_of_somebody_who_is_only_trying(
    client: TestClient, service: ModuleType
) -> None:
    metrics = service.RUNTIME.state.metrics
    version = metrics.model_version

    def counted() -> list[float]:
        return [
            count_of(metrics, DECISIONS, "contact"),
            count_of(metrics, DECISIONS, "leave_alone"),
            count_of(metrics, PREDICTIONS, version, "churn"),
            count_of(metrics, PREDICTIONS, version, "no_churn"),
        ]

    before, profit = counted(), sample_of(metrics, EXPECTED_PROFIT).value  # type: ignore[union-attr]  # a counter
    one = predict(client)
    predict(client, what_if=True)
    batch(client, [item(1), {**item(2), "what_if": True}, {"customer": LOYAL}])
    predict(client, customer=LOYAL)
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [2, 2, 2, 2]
    now = sample_of(metrics, EXPECTED_PROFIT).value  # type: ignore[union-attr]  # a counter
    assert now - profit == pytest.approx(2 * one["decision"]["expected_profit"])


@given(value=st.floats(1e-9, 1e9), reasons=st.integers(0, 7), months=st.integers(0, 120))
@settings(max_examples=50, deadline=None)
def test_any_value_gets_finite_figures_or_null(
    client: TestClient, value: float, reasons: int, months: int
) -> None:
    customer = CUSTOMER | {"tenure_months": months}
    answer = client.post(
        PREDICT_V2, json={"customer": customer, "customer_value": value, "max_reasons": reasons}
    )
    assert answer.status_code == 200
    assert "Infinity" not in answer.text
    assert "NaN" not in answer.text
