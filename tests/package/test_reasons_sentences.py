"""Reasons are told in sentences, in an order, up to a limit; and never as causes."""

from __future__ import annotations

import json
import re
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_serving.features.columns import FEATURE_NAMES
from churn_serving.model.reasons import sentences
from churn_serving.model.reasons.players import CODES, OTHER
from churn_serving.model.reasons.sentences import Sentences, choices_of
from churn_serving.schema import EXAMPLE

MEANS = {
    "tenure_months": 32.37,
    "monthly_charges": 64.7615,
    "total_charges": 2283.3004,
    "num_products": 4.2,
}
SHARES = {
    "has_phone_service": [0.1, 0.9],
    "has_internet": [0.004, 0.996],
    "contract_type": [0.55, 0.21, 0.24],
    "payment_method": [0.34, 0.22, 0.22, 0.22],
}
TOLD = Sentences(MEANS, SHARES)
IMPACTS = [0.5, 0.1, 0.25, 0.0, -0.2, 0.3, 0.7, -0.9]


def _reasons(
    impacts: list[float] = IMPACTS, limit: int = 7, **values: Any
) -> list[sentences.Reason]:
    return TOLD.describe({**EXAMPLE, **values}, impacts, limit)


def _message(code: str, *, impact: float = 1.0, **values: Any) -> str:
    impacts = [impact * (name == code or code.startswith(f"{name}_and")) for name in FEATURE_NAMES]
    return next(r["message"] for r in _reasons(impacts, **values) if r["code"] == code)


def test_the_largest_impact_comes_first_whatever_its_sign() -> None:
    assert [(reason["code"], reason["direction"]) for reason in _reasons()] == [
        ("payment_method", "lowers"),
        ("tenure_months_and_total_charges", "raises"),
        ("contract_type", "raises"),
        ("has_internet", "raises"),
        ("has_phone_service", "lowers"),
        ("monthly_charges", "raises"),
        ("num_products", "leaves"),
    ]


def test_equal_impacts_stand_in_the_order_of_the_fields() -> None:
    assert [reason["code"] for reason in _reasons([0.0] * 8)] == list(CODES)
    tied = [reason["code"] for reason in _reasons([0.1, -0.2, 0.1, 0.2, -0.2, 0.2, -0.2, 0.2])]
    assert tied == list(CODES)


def test_tenure_and_total_charges_are_one_reason() -> None:
    first = _reasons([1.0, 0, -0.25, 0, 0, 0, 0, 0])[0]
    assert first == {
        "code": "tenure_months_and_total_charges",
        "fields": ["tenure_months", "total_charges"],
        "values": [2, 151.65],
        "reference": [32.37, 2283.3],
        "impact": 0.75,
        "direction": "raises",
        "message": "A tenure of 2 months and total charges of $151.65 raise the estimate; the "
        "customers compared with have a tenure of 32.4 months and total charges of $2,283.30 on "
        "average.",
    }


def test_what_is_not_shown_is_summed_in_a_last_entry() -> None:
    *shown, last = _reasons(limit=3)
    assert len(shown) == 3
    assert last == {
        "code": OTHER,
        "fields": ["monthly_charges", "num_products", "has_phone_service", "has_internet"],
        "values": [],
        "reference": [],
        "impact": pytest.approx(0.2),
        "direction": "raises",
        "message": "The other fields together raise the estimate.",
    }


def test_there_is_no_last_entry_if_all_are_shown() -> None:
    for limit in (7, 8, 100):
        assert [r["code"] for r in _reasons(limit=limit)].count(OTHER) == 0
    (only,) = _reasons(limit=0)
    assert only["code"] == OTHER
    assert only["fields"] == [name for code in CODES for name in (code.split("_and_"))]


@settings(database=None, derandomize=True, deadline=None)
@given(impacts=st.lists(st.floats(-20, 20), min_size=8, max_size=8), limit=st.integers(0, 8))
def test_reasons_add_up_to_the_impacts(impacts: list[float], limit: int) -> None:
    reasons = _reasons(impacts, limit)
    assert sum(reason["impact"] for reason in reasons) == pytest.approx(sum(impacts), abs=1e-12)
    assert len(reasons) == min(limit + 1, len(CODES))
    assert sorted(name for reason in reasons for name in reason["fields"]) == sorted(FEATURE_NAMES)


def test_a_reason_is_json_and_the_next_one_leaves_it_as_it_is() -> None:
    reasons = _reasons()
    written = json.dumps(reasons)
    _reasons([-1.0] * 8)
    assert json.loads(written) == reasons


def test_an_impact_that_is_left_of_rounding_leaves_the_estimate() -> None:
    assert {reason["direction"] for reason in _reasons([1e-16, -1e-17, 0, 0, 0, 0, 0, 0])} == {
        "leaves"
    }
    (rest,) = _reasons([0.0] * 8, limit=0)
    assert rest["message"] == "The other fields together leave the estimate as it is."


def test_sentences_tell_what_the_background_has() -> None:
    assert _message("contract_type") == (
        "A month-to-month contract raises the estimate; 45% of the customers compared with have "
        "longer terms."
    )
    assert _message("contract_type", impact=-1, contract_type="two-year") == (
        "A two-year contract lowers the estimate; 76% of the customers compared with have shorter "
        "terms."
    )
    assert _message("has_internet", impact=0) == (
        "Having an internet service leaves the estimate as it is; fewer than 1% of the customers "
        "compared with have none."
    )
    assert _message("has_internet", has_internet=False) == (
        "Having no internet service raises the estimate; more than 99% of the customers compared "
        "with have one."
    )
    assert _message("monthly_charges", monthly_charges=1234.5) == (
        "A monthly charge of $1,234.50 raises the estimate; the customers compared with have one "
        "of $64.76 on average."
    )
    assert _message("num_products", impact=-1, num_products=1) == (
        "Having 1 product lowers the estimate; the customers compared with have 4.2 on average."
    )
    assert _message("tenure_months_and_total_charges", tenure_months=1).startswith(
        "A tenure of 1 month and total charges of $151.65 raise"
    )
    assert _message("monthly_charges", monthly_charges=-0.0).startswith("A monthly charge of $0.00")


def test_the_reference_of_a_flag_or_a_category_is_its_most_frequent_value() -> None:
    by_code = {reason["code"]: reason["reference"] for reason in _reasons()}
    assert by_code["has_internet"] == [True]
    assert by_code["contract_type"] == ["month-to-month"]
    assert by_code["payment_method"] == ["electronic"]


@pytest.mark.parametrize(("share", "said"), [(0.0, "all of"), (1.0, "none of")])
def test_all_and_none_are_called_so(share: float, said: str) -> None:
    told = Sentences(MEANS, {**SHARES, "has_internet": [1 - share, share]})
    (first, *_) = told.describe(EXAMPLE, [0.0, 0, 0, 0, 0, 1, 0, 0], 1)
    assert f"; {said} the customers compared with have none." in first["message"]


def _every_message() -> list[str]:
    choices = {name: choices_of(name) or (0, 1, 2.5, 99) for name in FEATURE_NAMES}
    messages = []
    for impact, place in product((1.0, -1.0, 0.0), range(4)):
        values = {name: each[place % len(each)] for name, each in choices.items()}
        for limit in (0, 7):
            messages += [r["message"] for r in TOLD.describe(values, [impact] * 8, limit)]
    return messages


def test_no_sentence_speaks_of_a_cause() -> None:
    for message in _every_message():
        assert not re.search(r"becaus|caus|due to|leads|makes|why|reason", message, re.IGNORECASE)
        assert re.fullmatch(r"[A-Z].* the estimate[ ;.].*\.|[A-Z].* the estimate\.", message)


def test_a_field_that_nobody_has_words_for_is_spoken_of_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sentences, "_NUMBERS", {})
    monkeypatch.setattr(sentences, "_CHOICES", {})
    told = Sentences(MEANS, SHARES)
    messages = {r["code"]: r["message"] for r in told.describe(EXAMPLE, IMPACTS, 7)}
    assert messages["monthly_charges"] == (
        "The value 70.7 of 'monthly charges' raises the estimate; the customers compared with have "
        "64.7615 on average."
    )
    assert messages["has_internet"] == (
        "The value 'true' of 'has internet' raises the estimate; fewer than 1% of the customers "
        "compared with have another one."
    )
    assert messages["contract_type"] == (
        "The value 'month-to-month' of 'contract type' raises the estimate; 45% of the customers "
        "compared with have another one."
    )


def test_no_words_are_kept_for_a_field_or_a_value_that_is_gone() -> None:
    assert set(sentences._NUMBERS) | set(sentences._CHOICES) <= set(FEATURE_NAMES)
    for name, said in sentences._CHOICES.items():
        assert set(said) <= set(choices_of(name) or ())
