"""The load test: what it makes of right and wrong answers, and whom it asks about."""

from __future__ import annotations

import copy
import importlib
import json
import math
import socket
import ssl
from argparse import Namespace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from bench.load import CUSTOMERS
from bench.load.sample import SIZE, sample, text
from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.features.rows import customer_row, feature_matrix
from churn_serving.http.api import v0, v1, v2, v2_batch
from churn_serving.http.api.v0 import Prediction
from churn_serving.http.api.v1 import BatchPrediction, PredictionV1
from churn_serving.http.api.v2 import CaseRequest, PolicyAnswer, PredictionV2
from churn_serving.http.api.v2_batch import BatchAnswer
from churn_serving.http.problems import STATUS_OF, answer_with
from churn_serving.learning.dataset import load_dataset
from churn_serving.runtime.state import READINESS
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS: Final = Namespace(max_fail_ratio=0.01, max_p99_ms=200.0)
JSON: Final = {"content-type": "application/json"}

REASONS: Final = [
    {
        "code": "contract_type",
        "fields": ["contract_type"],
        "values": ["two-year"],
        "reference": ["month-to-month"],
        "impact": -2.0,
        "direction": "lowers",
        "message": "A two-year contract lowers the estimate.",
    },
    {
        "code": "other",
        "fields": ["has_internet"],
        "values": [],
        "reference": [],
        "impact": 1.0,
        "direction": "raises",
        "message": "The other fields together raise the estimate.",
    },
]
CASE: Final[dict[str, Any]] = {"customer": {}, "customer_id": 7, "max_reasons": 1}
ITEMS: Final = [{"customer": {}, "customer_id": "C-1"}, {"customer": None}, {"customer": {}}]


def decided(profit: float, customer_id: object = None) -> dict[str, Any]:
    """A right answer of v2: log-odds of 1 - 2 + 1, so an even chance."""
    return {
        "customer_id": customer_id,
        "churn_probability": 0.5,
        "decision": {
            "action": "contact" if profit > 0 else "leave_alone",
            "expected_profit": profit,
            "threshold": 0.164,
            "break_even_acceptance": None,
        },
        "baseline": 1.0,
        "reasons": REASONS,
        "model_version": "abc",
        "policy_version": "def",
    }


ANSWERS: Final[dict[str, dict[str, Any]]] = {
    v0.PREDICT.path: {"churn_prediction": 1, "churn_probability": 0.72, "model_tag": "churn:abc"},
    v1.PREDICT.path: {
        "prediction": 0,
        "probability": {"no_churn": 0.9, "churn": 0.1},
        "inference_time_ms": 0.02,
        "model_version": "abc",
    },
    v1.PREDICT_BATCH.path: {
        "results": [
            {"prediction": 0, "probability": {"no_churn": 1.0, "churn": 0.0}, "batch_index": 0},
            {"prediction": 1, "probability": {"no_churn": 0.1, "churn": 0.9}, "batch_index": 1},
        ],
        "batch_size": 2,
        "total_inference_time_ms": 0.1,
    },
    v2.PREDICT.path: decided(20.0, 7),
    v2_batch.PREDICT_BATCH.path: {
        "results": [
            decided(10.0, "C-1"),
            {
                "error": "1 field is missing or invalid.",
                "detail": [{"loc": ["customer"], "msg": "A customer.", "type": "model_type"}],
            },
            decided(30.0),
        ],
        "ranking": [2, 0],
        "totals": {
            "customers": 2,
            "refused": 1,
            "contacts": 2,
            "control": 0,
            "expected_profit": 40.0,
            "expected_cost": 12.5,
        },
        "model_version": "abc",
        "policy_version": "def",
    },
    v2.POLICY: {
        "policy": {
            "customer_value": 200.0,
            "offer_cost": 10.0,
            "contact_cost": 1.0,
            "acceptance": 0.3,
            "control_share": 0.0,
        },
        "policy_version": "def",
        "threshold": 0.164,
    },
    READINESS: {"status": "ready", "model_version": "abc"},
}
BATCH_V2: Final = v2_batch.PREDICT_BATCH.path
NULLABLE: Final = {"customer_id", "baseline", "reasons", "threshold"}
SHAPES: Final[dict[str, Any]] = {
    v0.PREDICT.path: Prediction,
    v1.PREDICT.path: PredictionV1,
    v1.PREDICT_BATCH.path: BatchPrediction,
    v2.PREDICT.path: PredictionV2,
    v2_batch.PREDICT_BATCH.path: BatchAnswer,
    v2.POLICY: PolicyAnswer,
}


@pytest.fixture(scope="module")
def load() -> Any:
    """The locustfile; importing it must not change this process's sockets and threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCUST_SKIP_MONKEY_PATCH", "1")
        module = importlib.import_module("locustfile")
    assert not importlib.import_module("gevent.monkey").is_anything_patched()
    return module


def verdict(load: Any, path: str, answer: object) -> str:
    """What the check of this path calls the answer; nothing, if it is right."""
    checks: dict[str, Callable[[object], None]] = {
        v0.PREDICT.path: load.check_prediction,
        v1.PREDICT.path: load.check_prediction_v1,
        v1.PREDICT_BATCH.path: lambda answer: load.check_batch(answer, size=2),
        v2.PREDICT.path: lambda answer: load.check_v2(answer, asked=CASE),
        v2_batch.PREDICT_BATCH.path: lambda answer: load.check_batch_v2(
            answer, asked={"items": ITEMS, "capacity": 3}
        ),
        v2.POLICY: load.check_policy,
        READINESS: load.check_readiness,
    }
    try:
        checks[path](load.read(200, JSON, json.dumps(answer).encode()))
    except load.AnswerError as error:
        return str(error)
    return ""


def changed(path: str, place: str, value: object) -> dict[str, Any]:
    """A right answer with one wrong value, at a place like ``probability.churn``."""
    answer = copy.deepcopy(ANSWERS[path])
    *outer, last = (int(part) if part.isdigit() else part for part in place.split("."))
    inner: Any = answer
    for part in outer:
        inner = inner[part]
    inner[last] = value
    return answer


@pytest.mark.parametrize("path", ANSWERS)
def test_a_right_answer_passes(load: Any, path: str) -> None:
    if path in SHAPES:
        TypeAdapter(SHAPES[path]).validate_python(ANSWERS[path], strict=True)
    assert verdict(load, path, ANSWERS[path]) == ""


@pytest.mark.parametrize(
    ("path", "field"), [(path, field) for path, answer in ANSWERS.items() for field in answer]
)
def test_each_missing_field_is_named(load: Any, path: str, field: str) -> None:
    answer = {name: value for name, value in ANSWERS[path].items() if name != field}
    assert verdict(load, path, answer) == f"{field} is missing"
    if field not in NULLABLE:
        assert verdict(load, path, changed(path, field, None)) == f"{field} has a wrong type"


@pytest.mark.parametrize("path", SHAPES)
def test_the_checks_know_every_field_of_the_contract(path: str) -> None:
    assert set(ANSWERS[path]) == set(SHAPES[path].__annotations__)


@pytest.mark.parametrize(
    ("path", "place", "value", "name"),
    [
        (v0.PREDICT.path, "churn_prediction", 2, "prediction is not 0 or 1"),
        (v0.PREDICT.path, "churn_prediction", True, "churn_prediction has a wrong type"),
        (v0.PREDICT.path, "churn_prediction", 1.0, "churn_prediction has a wrong type"),
        (v0.PREDICT.path, "churn_probability", 1.01, "probability out of range"),
        (v0.PREDICT.path, "churn_probability", float("nan"), "probability out of range"),
        (v0.PREDICT.path, "churn_probability", "0.5", "churn_probability has a wrong type"),
        (v0.PREDICT.path, "model_tag", "", "model_tag is empty"),
        (v1.PREDICT.path, "prediction", -1, "prediction is not 0 or 1"),
        (v1.PREDICT.path, "probability", 0.5, "probability has a wrong type"),
        (v1.PREDICT.path, "probability.churn", -0.1, "probability out of range"),
        (v1.PREDICT.path, "probability.churn", 0.2, "probabilities do not sum to 1"),
        (v1.PREDICT.path, "probability", {"churn": 1.0}, "no_churn is missing"),
        (v1.PREDICT.path, "inference_time_ms", -1, "inference time is negative"),
        (v1.PREDICT.path, "model_version", "", "model_version is empty"),
        (v1.PREDICT_BATCH.path, "batch_size", 3, "batch has a wrong size"),
        (v1.PREDICT_BATCH.path, "results", [], "batch has a wrong size"),
        (v1.PREDICT_BATCH.path, "results.0.batch_index", 1, "batch is not in order"),
        (v1.PREDICT_BATCH.path, "results.1.prediction", 7, "prediction is not 0 or 1"),
        (v1.PREDICT_BATCH.path, "results.1.probability.churn", 2, "probability out of range"),
        (v1.PREDICT_BATCH.path, "results.1", None, "batch_index is missing"),
        (v1.PREDICT_BATCH.path, "total_inference_time_ms", -1, "inference time is negative"),
        (v2.PREDICT.path, "customer_id", "7", "customer_id is another one"),
        (v2.PREDICT.path, "customer_id", None, "customer_id is another one"),
        (v2.PREDICT.path, "churn_probability", 1.5, "probability out of range"),
        (v2.PREDICT.path, "churn_probability", 0.5000001, "reasons do not add up"),
        (v2.PREDICT.path, "decision.action", "phone", "action is unknown"),
        (v2.PREDICT.path, "decision.action", "leave_alone", "action and expected profit disagree"),
        (v2.PREDICT.path, "decision.expected_profit", 0, "action and expected profit disagree"),
        (v2.PREDICT.path, "decision.threshold", "high", "threshold has a wrong type"),
        (v2.PREDICT.path, "baseline", None, "reasons and baseline disagree"),
        (v2.PREDICT.path, "baseline", 1.0001, "reasons do not add up"),
        (v2.PREDICT.path, "reasons", 2 * REASONS[:1], "reasons are too many"),
        (v2.PREDICT.path, "reasons", 2 * REASONS[1:], "reasons are too many"),
        (v2.PREDICT.path, "reasons", REASONS[::-1], "other reasons are not the last"),
        (v2.PREDICT.path, "reasons", REASONS[:1], "reasons do not add up"),
        (v2.PREDICT.path, "reasons.0.direction", "raises", "direction is wrong"),
        (v2.PREDICT.path, "reasons.0.message", "", "message is empty"),
        (v2.PREDICT.path, "policy_version", "", "policy_version is empty"),
        (BATCH_V2, "results", [], "batch has a wrong size"),
        (BATCH_V2, "results.1", decided(1.0), "error is missing"),
        (BATCH_V2, "results.1.detail", [], "detail is empty"),
        (BATCH_V2, "results.0", {"error": "No.", "detail": []}, "customer_id is missing"),
        (BATCH_V2, "results.0.customer_id", "C-2", "customer_id is another one"),
        (BATCH_V2, "ranking", [0, 2], "ranking is wrong"),
        (BATCH_V2, "ranking", [2], "ranking is wrong"),
        (BATCH_V2, "totals.refused", 0, "totals are wrong"),
        (BATCH_V2, "totals.expected_profit", 41.0, "totals are wrong"),
        (BATCH_V2, "totals.expected_cost", -1, "totals are wrong"),
        (v2.POLICY, "policy.acceptance", -1, "acceptance is negative"),
        (v2.POLICY, "policy_version", "", "policy_version is empty"),
        (READINESS, "status", "loading", "status is not ready"),
        (READINESS, "model_version", "", "model_version is empty"),
    ],
)
def test_each_wrong_value_has_a_name(
    load: Any, path: str, place: str, value: object, name: str
) -> None:
    assert verdict(load, path, changed(path, place, value)) == name


@pytest.mark.parametrize("answer", [[], "text", 1, {}])
@pytest.mark.parametrize("path", ANSWERS)
def test_another_document_is_no_answer(load: Any, path: str, answer: object) -> None:
    assert verdict(load, path, answer).endswith(" is missing")


@pytest.mark.parametrize(
    ("headers", "body", "name"),
    [
        ({"content-type": "text/html"}, b"{}", "Content-Type is not JSON"),
        ({}, b"{}", "Content-Type is not JSON"),
        (JSON, b"{", "not JSON"),
        (JSON, b"", "not JSON"),
        (JSON, b"\xff", "not JSON"),
        (JSON, b"null", "not JSON"),
    ],
)
def test_what_is_not_json_is_named(
    load: Any, headers: dict[str, str], body: bytes, name: str
) -> None:
    with pytest.raises(load.AnswerError, match=f"^{name}$"):
        load.read(200, headers, body)


def refused(load: Any, status: int, headers: dict[str, str], body: bytes) -> str:
    with pytest.raises(load.AnswerError) as caught:
        load.read(status, headers, body)
    assert repr(caught.value) == str(caught.value)  # what Locust's tables show
    return str(caught.value)


@pytest.mark.parametrize("status", sorted(set(STATUS_OF.values()) - {499}))
def test_each_error_of_the_service_has_a_name(load: Any, status: int) -> None:
    _, body, headers = answer_with(status)
    name = refused(load, status, {key.decode(): value.decode() for key, value in headers}, body)
    assert name == f"{status} {load.STATUSES[status]}"


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (401, "401 no valid API key"),
        (422, "422 refused"),
        (429, "429 overloaded, no Retry-After"),
        (503, "503 not ready, no Retry-After"),
        (504, "504 too late"),
        (799, "799 unknown"),
    ],
)
def test_a_status_is_named_by_its_cause(load: Any, status: int, name: str) -> None:
    assert refused(load, status, {}, b'{"error": "Something.", "detail": []}') == name
    by_proxy = name.removesuffix(", no Retry-After") + ", not from the service"
    assert refused(load, status, {}, b"<html>") == by_proxy


def test_a_redirect_is_no_answer(load: Any) -> None:
    assert refused(load, 301, {}, b"") == "301 redirected, not from the service"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (ConnectionResetError(104, "reset by peer"), "connection lost"),
        (BrokenPipeError(), "connection lost"),
        (socket.gaierror(-2, "Name or service not known"), "unknown host"),
        (ssl.SSLCertVerificationError("certificate verify failed"), "TLS failed"),
        (OSError(113, "No route to host"), "connection failed"),
    ],
)
def test_no_answer_is_named_by_its_cause(load: Any, error: OSError, name: str) -> None:
    assert str(load.why_no_answer(error)) == name
    wrapped = OSError()
    wrapped.original = error  # type: ignore[attr-defined]  # as Locust's client wraps some
    assert str(load.why_no_answer(wrapped)) == name


def test_a_broken_answer_is_named(load: Any) -> None:
    from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError

    assert str(load.why_no_answer(HTTPConnectionClosed())) == "connection lost"
    assert str(load.why_no_answer(HTTPParseError())) == "answer cut off, or not HTTP"


@pytest.mark.parametrize(
    ("measured", "broken"),
    [
        ((100.0, 0.0, 200.0), ""),
        ((100.0, 0.01, 10.0), ""),
        ((0.0, 0.0, 0.0), "nothing was answered"),
        ((100.0, 0.02, 10.0), "2% of the requests failed (limit: 1%)"),
        ((100.0, 0.0, 210.0), "p99 was 210 ms (limit: 200 ms)"),
    ],
)
def test_a_broken_limit_is_named(
    load: Any, measured: tuple[float, float, float], broken: str
) -> None:
    assert load.Figures(*measured).broken_limit(LIMITS) == broken


def search(load: Any, p99_ms: dict[int, float], *, run_time: float | None = None) -> list[Any]:
    """Play a search, a tick a second; return the users of each tick, and the result."""
    options = Namespace(step_users=10, step_seconds=15.0, run_time=run_time, **vars(LIMITS))
    steps = load.StepSearch(SimpleNamespace(parsed_options=options))
    clock = iter(range(10_000))
    steps.get_run_time = lambda: next(clock)
    steps.lately = lambda: load.Figures(100.0, 0.0, p99_ms[steps.steps])
    ticks = []
    while tick := steps.tick():
        ticks.append(tick[0])
    return [ticks, steps.result()]


def test_the_search_ends_with_the_first_step_that_breaks_a_limit(load: Any) -> None:
    ticks, (held, sentence) = search(load, {1: 5.0, 2: 20.0, 3: 300.0})
    assert ticks == [10] * 15 + [20] * 15 + [30] * 15
    assert held
    assert sentence == (
        "20 users held: 100 requests/s, 0% failed, p99 20 ms; "
        "at 30 users, p99 was 300 ms (limit: 200 ms)."
    )


def test_the_search_fails_if_no_step_holds(load: Any) -> None:
    assert search(load, {1: 300.0})[1] == (
        False,
        "No step held; at 10 users, p99 was 300 ms (limit: 200 ms).",
    )


def test_the_search_may_be_ended_before_a_limit_is_broken(load: Any) -> None:
    ticks, result = search(load, {1: 5.0, 2: 5.0}, run_time=20.0)
    assert len(ticks) == 20
    assert result == (
        True,
        "10 users held: 100 requests/s, 0% failed, p99 5 ms; then the test was ended.",
    )


def test_the_tasks_have_the_promised_weights(load: Any) -> None:
    tasks = [task.__name__ for task in load.ChurnUser.tasks]
    weights = {name: tasks.count(name) for name in tasks}
    assert weights == {
        "predict": 4,
        "predict_v1": 4,
        "predict_batch": 2,
        "predict_v2": 4,
        "predict_batch_v2": 1,
        "policy": 1,
        "ready": 1,
    }


def test_the_reasons_of_several_are_in_order(load: Any) -> None:
    first, second = ({**REASONS[0], "impact": impact} for impact in (-0.5, -1.5))
    asked = CASE | {"max_reasons": 7}
    load.check_v2(decided(1.0, 7) | {"reasons": [second, first, REASONS[1]]}, asked=asked)
    with pytest.raises(load.AnswerError, match=r"^reasons are not in order$"):
        load.check_v2(decided(1.0, 7) | {"reasons": [first, second, REASONS[1]]}, asked=asked)


@pytest.mark.parametrize("churn", [0.0, 1.0])
def test_an_estimate_without_log_odds_is_explained_as_one_just_inside(
    load: Any, churn: float
) -> None:
    inside = min(max(churn, 1e-6), 1 - 1e-6)
    baseline = math.log(inside / (1 - inside)) + 1.0
    answer = decided(1.0, 7) | {"churn_probability": churn, "baseline": baseline}
    load.check_v2(answer, asked=CASE)


def test_a_capacity_cuts_the_ranking(load: Any) -> None:
    answer = changed(BATCH_V2, "ranking", [2])
    answer["totals"] |= {"contacts": 1, "expected_profit": 30.0}
    load.check_batch_v2(answer, asked={"items": ITEMS, "capacity": 1})


def test_a_customer_of_v2_is_one_and_a_bad_one_is_none(load: Any) -> None:
    for number in range(100):
        CaseRequest.model_validate(load.case(number))
    for customer in load.BAD_CUSTOMERS:
        assert customer not in load.CUSTOMERS
        with pytest.raises(ValidationError):
            CaseRequest.model_validate({"customer": customer})


def test_options_come_from_the_environment_and_the_key_stays_out_of_the_web_page(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from locust.argument_parser import get_parser, ui_extra_args_dict

    monkeypatch.setenv("CHURN_LOAD_API_KEY", "secret")
    monkeypatch.setenv("CHURN_LOAD_MAX_P99_MS", "80")
    options = get_parser(default_config_files=[]).parse_args([])
    assert (options.api_key, options.max_p99_ms, options.wait_min_ms) == ("secret", 80.0, 100.0)
    shown = ui_extra_args_dict([])
    assert set(shown) == {"wait_min_ms", "wait_max_ms", "max_fail_ratio", "max_p99_ms"}
    assert load.CUSTOMERS


def test_every_customer_of_the_sample_is_valid(load: Any) -> None:
    assert len(load.CUSTOMERS) == SIZE
    for customer in load.CUSTOMERS:
        assert list(customer) == list(Customer.model_fields)
        Customer.model_validate(customer)
    with pytest.raises(ValidationError):
        Customer.model_validate(load.CUSTOMERS[0] | {"tenure_months": "1"})


def test_the_sample_can_be_made_anew() -> None:
    assert CUSTOMERS.read_text(encoding="utf-8") == text(sample())


def test_the_sample_has_the_distribution_of_the_table(load: Any) -> None:
    table = load_dataset().X
    rows = feature_matrix(customer_row(Customer.model_validate(row)) for row in load.CUSTOMERS)
    assert len(np.unique(rows, axis=0)) == SIZE
    for column, name in enumerate(COLUMN_NAMES):
        there, here = np.sort(table[:, column]), np.sort(rows[:, column])
        # The largest distance of the two distribution functions; 400 random rows stay below 0.07.
        shares = (
            np.searchsorted(values, there, side="right") / len(values) for values in (there, here)
        )
        assert np.abs(np.subtract(*shares)).max() < 0.035, name
    assert np.abs(np.corrcoef(table.T) - np.corrcoef(rows.T)).max() < 0.05
