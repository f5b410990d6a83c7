from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from churn_serving.features.columns import CATEGORIES, bounds_of
from churn_serving.http.api.v0 import Prediction
from churn_serving.http.api.v1 import (
    BatchPrediction,
    BatchResult,
    CustomerBatch,
    PredictionV1,
    Probability,
)
from churn_serving.schema import MAX_BATCH_ITEMS, Customer
from tests.bad_requests import WRONG_VALUES, raw

# What the contract says in its own words: these answers clients have seen.
MESSAGES = [
    ("tenure_months", "121", "less_than_equal", "Input should be less than or equal to 120"),
    ("tenure_months", '"24"', "int_type", "Input should be a valid integer"),
    (
        "monthly_charges",
        "-0.01",
        "greater_than_equal",
        "Input should be greater than or equal to 0",
    ),
    ("monthly_charges", "NaN", "finite_number", "Input should be a finite number"),
    (
        "total_charges",
        "1000000.01",
        "less_than_equal",
        "Input should be less than or equal to 1000000",
    ),
    ("num_products", "0", "greater_than_equal", "Input should be greater than or equal to 1"),
    ("has_internet", "1", "bool_type", "Input should be a valid boolean"),
    (
        "contract_type",
        '"weekly"',
        "literal_error",
        "Input should be 'month-to-month', 'one-year' or 'two-year'",
    ),
    (
        "payment_method",
        "null",
        "literal_error",
        "Input should be 'electronic', 'mailed', 'bank' or 'credit'",
    ),
]


def _failures(body: str | bytes, model: type[BaseModel] = Customer) -> list[Any]:
    with pytest.raises(ValidationError) as refused:
        model.model_validate_json(body)
    return list(refused.value.errors(include_url=False, include_input=False, include_context=False))


def test_a_valid_customer_is_taken_as_it_is(customer: dict[str, Any]) -> None:
    assert Customer.model_validate_json(json.dumps(customer)).model_dump() == customer


def test_the_fields_of_the_contract_are_there_and_all_fields_are_required() -> None:
    assert {
        "tenure_months",
        "monthly_charges",
        "total_charges",
        "num_products",
        "has_phone_service",
        "has_internet",
        "contract_type",
        "payment_method",
    } <= Customer.model_fields.keys()
    assert all(field.is_required() for field in Customer.model_fields.values())


@pytest.mark.parametrize("field", Customer.model_fields)
def test_refuses_a_customer_without_one_of_the_fields(field: str, customer: dict[str, Any]) -> None:
    del customer[field]
    failures = _failures(json.dumps(customer))
    assert [(failure["loc"], failure["type"]) for failure in failures] == [((field,), "missing")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}: {what}")
        for field, values in WRONG_VALUES.items()
        for what, value in [("null", "null"), *values.items()]
    ],
)
def test_refuses_a_wrong_value_by_the_name_of_its_field_without_repeating_it(
    field: str, value: str
) -> None:
    (failure,) = _failures(raw(**{field: value}))
    assert failure["loc"] == (field,)
    assert failure["msg"].startswith("Input should be ")
    assert failure["type"]
    assert len(value) < 5 or value.strip('"') not in str(failure)


@pytest.mark.parametrize(("field", "value", "kind", "message"), MESSAGES)
def test_the_messages_of_the_contract(field: str, value: str, kind: str, message: str) -> None:
    (failure,) = _failures(raw(**{field: value}))
    assert (failure["type"], failure["msg"]) == (kind, message)


@pytest.mark.parametrize("edge", [0, 1])
def test_takes_the_smallest_and_the_largest_of_every_number(
    edge: int, customer: dict[str, Any]
) -> None:
    customer |= {name: limits[edge] for name, limits in bounds_of(Customer).items()}
    assert Customer.model_validate_json(json.dumps(customer)).model_dump() == customer


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in CATEGORIES.items() for value in values],
)
def test_takes_every_category(field: str, value: str, customer: dict[str, Any]) -> None:
    customer[field] = value
    assert getattr(Customer.model_validate_json(json.dumps(customer)), field) == value


def test_takes_both_values_of_every_flag(customer: dict[str, Any]) -> None:
    for value in (True, False):
        flags = {name: value for name, known in customer.items() if isinstance(known, bool)}
        taken = Customer.model_validate_json(json.dumps(customer | flags)).model_dump()
        assert taken == customer | flags


@pytest.mark.parametrize(("text", "charge"), [("70", 70.0), ("5e1", 50.0)])
def test_a_whole_number_is_taken_for_a_charge_and_becomes_a_float(text: str, charge: float) -> None:
    taken = Customer.model_validate_json(raw(monthly_charges=text)).monthly_charges
    assert taken == charge
    assert isinstance(taken, float)


def test_refuses_a_total_below_the_monthly_charges(customer: dict[str, Any]) -> None:
    customer |= {"monthly_charges": 70.51, "total_charges": 70.5}
    (failure,) = _failures(json.dumps(customer))
    assert failure["loc"] == ("total_charges",)
    assert failure["msg"] == "Input should be greater than or equal to monthly_charges"
    assert failure["type"] == "less_than_monthly_charges"


@pytest.mark.parametrize("charges", [0.0, 0.01, 70.5, 500.0])
def test_takes_a_total_equal_to_the_monthly_charges(
    charges: float, customer: dict[str, Any]
) -> None:
    customer |= {"monthly_charges": charges, "total_charges": charges}
    assert Customer.model_validate_json(json.dumps(customer)).total_charges == charges


def test_wrong_monthly_charges_are_not_blamed_on_the_total(customer: dict[str, Any]) -> None:
    customer |= {"monthly_charges": 501, "total_charges": 1}
    assert [failure["loc"] for failure in _failures(json.dumps(customer))] == [("monthly_charges",)]


@pytest.mark.parametrize("name", ["gender", "Tenure_Months", "", "tenure_months "])
def test_refuses_a_field_it_does_not_know_by_its_name(name: str, customer: dict[str, Any]) -> None:
    (failure,) = _failures(json.dumps({**customer, name: "secret-4711"}))
    assert failure["loc"] == (name,)
    assert failure["type"] == "extra_forbidden"
    assert "4711" not in str(failure)


def test_all_that_is_wrong_is_reported_at_once(customer: dict[str, Any]) -> None:
    wrong = {
        **customer,
        "tenure_months": -1,
        "num_products": "2",
        "contract_type": "weekly",
        "x": 1,
    }
    assert [failure["loc"][0] for failure in _failures(json.dumps(wrong))] == [
        "tenure_months",
        "num_products",
        "contract_type",
        "x",
    ]


@pytest.mark.parametrize("body", ["null", "[]", "1", '"customer"', "true"])
def test_refuses_what_is_no_object(body: str) -> None:
    (failure,) = _failures(body)
    assert failure["loc"] == ()


@pytest.mark.parametrize("size", [1, 2, MAX_BATCH_ITEMS])
def test_a_batch_holds_one_to_one_hundred_customers(size: int, customer: dict[str, Any]) -> None:
    batch = CustomerBatch.model_validate_json(json.dumps({"items": [customer] * size}))
    assert len(batch.items) == size <= 100


@pytest.mark.parametrize(
    ("size", "kind"), [(0, "too_short"), (101, "too_long"), (5000, "too_long")]
)
def test_refuses_a_batch_of_another_size(size: int, kind: str, customer: dict[str, Any]) -> None:
    (failure,) = _failures(json.dumps({"items": [customer] * size}), CustomerBatch)
    assert failure["loc"] == ("items",)
    assert failure["type"] == kind


def test_a_failure_in_a_batch_says_which_customer_and_field(customer: dict[str, Any]) -> None:
    items = [customer, {**customer, "num_products": 0}, {**customer, "note": "secret-4711"}]
    failures = _failures(json.dumps({"items": items}), CustomerBatch)
    assert [failure["loc"] for failure in failures] == [
        ("items", 1, "num_products"),
        ("items", 2, "note"),
    ]
    assert "4711" not in str(failures)


@pytest.mark.parametrize("body", ['{"items": null}', '{"items": {}}', "{}", '{"items": "x"}'])
def test_refuses_a_batch_without_a_list(body: str) -> None:
    (failure,) = _failures(body, CustomerBatch)
    assert failure["loc"] == ("items",)


def test_refuses_a_batch_with_a_field_it_does_not_know(customer: dict[str, Any]) -> None:
    (failure,) = _failures(json.dumps({"items": [customer], "model": "x"}), CustomerBatch)
    assert failure["loc"] == ("model",)


def test_the_example_of_the_documentation_is_valid() -> None:
    schema = Customer.model_json_schema()
    for example in schema.get("examples") or [schema["example"]]:
        assert Customer.model_validate_json(json.dumps(example)).model_dump() == example


def test_the_documentation_describes_every_field() -> None:
    for model in (Customer, CustomerBatch):
        for name, field in model.model_json_schema()["properties"].items():
            assert field.get("description"), name


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (Prediction, ("churn_prediction", "churn_probability", "model_tag")),
        (Probability, ("no_churn", "churn")),
        (PredictionV1, ("prediction", "probability", "inference_time_ms", "model_version")),
        (BatchResult, ("prediction", "probability", "batch_index")),
        (BatchPrediction, ("results", "batch_size", "total_inference_time_ms")),
    ],
)
def test_the_documentation_gives_each_answer_the_fields_of_the_contract(
    answer: Any, fields: tuple[str, ...]
) -> None:
    schema = TypeAdapter(answer).json_schema()
    assert tuple(schema["properties"]) == fields
    assert set(schema["required"]) == set(fields)


@pytest.mark.parametrize("churn", [-0.01, 1.01, float("nan"), "0.5"])
def test_the_documentation_allows_no_probability_outside_of_0_and_1(churn: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Probability).validate_python({"no_churn": 0.5, "churn": churn}, strict=True)


@pytest.mark.parametrize("outcome", [-1, 2, "1", None])
def test_the_documentation_allows_no_other_outcome_than_0_and_1(outcome: object) -> None:
    answer = {"churn_prediction": outcome, "churn_probability": 0.5, "model_tag": "m:v"}
    with pytest.raises(ValidationError):
        TypeAdapter(Prediction).validate_python(answer)
