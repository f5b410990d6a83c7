"""Whole columns are checked by the same rules as a single customer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from churn_serving.features.columns import (
    CATEGORIES,
    FEATURE_NAMES,
    bounds_of,
    matrix_of,
    refused_rows,
)
from churn_serving.features.first_month import with_first_totals
from churn_serving.features.rows import customer_row, feature_matrix
from churn_serving.fields import FIRST_MONTHS
from churn_serving.schema import EXAMPLE, Customer, CustomerV2

_BOUNDS = bounds_of(Customer)
_EDGES = {
    name: [low, high, low - 1, high + 1, np.nextafter(low, -1), np.nextafter(high, high + 1)]
    for name, (low, high) in _BOUNDS.items()
}


def _values(name: str) -> st.SearchStrategy[Any]:
    kind = Customer.model_fields[name].annotation
    if name in CATEGORIES:
        return st.sampled_from([*CATEGORIES[name], "none of them"])
    if kind is bool:
        return st.booleans()
    low, high = _BOUNDS[name]
    if kind is int:
        return st.integers(int(low) - 3, int(high) + 3)
    usual = st.floats(low, 100.0)
    odd = st.sampled_from([*_EDGES[name], float("nan"), float("inf"), -float("inf"), -0.0])
    return st.one_of(usual, usual, odd, st.floats())


_rows = st.lists(st.fixed_dictionaries({name: _values(name) for name in FEATURE_NAMES}))


def _column(name: str, values: list[Any]) -> Any:
    if name in CATEGORIES:
        places = {value: place for place, value in enumerate(CATEGORIES[name])}
        return np.array([places.get(value, -1) for value in values], np.int8)
    return np.array(values, np.float64)


def _customer(row: dict[str, Any]) -> Customer | None:
    try:
        return Customer.model_validate(row)
    except ValidationError:
        return None


@given(rows=_rows)
@example(rows=[{**EXAMPLE, "total_charges": 70.69999999999999}, EXAMPLE])
@example(rows=[{**EXAMPLE, "monthly_charges": 501.0, "total_charges": 500.0}])
@settings(deadline=None, max_examples=200)
def test_a_row_is_refused_if_and_only_if_the_schema_refuses_the_customer(
    rows: list[dict[str, Any]],
) -> None:
    fields = {name: _column(name, [row[name] for row in rows]) for name in FEATURE_NAMES}
    refused = {row for rule in refused_rows(fields) for row in rule.rows.tolist()}
    customers = [_customer(row) for row in rows]
    assert refused == {number for number, customer in enumerate(customers) if customer is None}
    kept = [number for number in range(len(rows)) if number not in refused]
    matrix = matrix_of({name: values[kept] for name, values in fields.items()})
    expected = feature_matrix(customer_row(c) for c in customers if c is not None)
    np.testing.assert_array_equal(matrix, expected)


@given(row=st.fixed_dictionaries({name: _values(name) for name in FEATURE_NAMES}))
@settings(deadline=None, max_examples=200)
def test_the_fields_that_are_named_are_those_that_the_schema_names(row: dict[str, Any]) -> None:
    fields = {name: _column(name, [row[name]]) for name in FEATURE_NAMES}
    named = {rule.field for rule in refused_rows(fields)}
    try:
        Customer.model_validate(row)
        expected = set()
    except ValidationError as error:
        expected = {str(failure["loc"][0]) for failure in error.errors()}
    assert named == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"tenure_months": 2.5}, "a whole number"),
        ({"num_products": np.nan}, "a finite number"),
        ({"has_internet": 0.5}, "true or false"),
        ({"has_internet": np.nan}, "true or false"),
        ({"contract_type": len(CATEGORIES["contract_type"])}, "one of 'month-to-month'"),
    ],
)
def test_what_no_customer_could_hold_is_refused_in_a_column_too(
    change: dict[str, Any], expected: str
) -> None:
    fields = {name: _column(name, [value]) for name, value in EXAMPLE.items()}
    fields |= {
        name: np.array([v], np.int8 if name in CATEGORIES else float) for name, v in change.items()
    }
    (refused,) = refused_rows(fields)
    assert refused.field in change
    assert refused.expected.startswith(expected)
    assert refused.rows.tolist() == [0]


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.floats(0, 500), st.one_of(st.none(), st.floats(0, 9e5)))
    )
)
@settings(deadline=None)
def test_the_first_total_is_the_same_for_one_customer_and_for_a_column(
    rows: list[tuple[int, float, float | None]],
) -> None:
    tenure, monthly = (np.array([row[place] for row in rows], float) for place in (0, 1))
    missing = np.array([row[2] is None for row in rows], bool)
    total = np.array([np.nan if row[2] is None else row[2] for row in rows], float)
    filled_totals, filled = with_first_totals(
        tenure_months=tenure, monthly_charges=monthly, total_charges=total, missing=missing
    )
    for row, value, was_filled in zip(rows, filled_totals.tolist(), filled.tolist(), strict=True):
        assert was_filled is (row[2] is None and row[0] in FIRST_MONTHS)
        try:
            one = _with_total(*row)
        except ValidationError:
            assert np.isnan(value) or value < row[1]
        else:
            assert value == one.total_charges


def test_a_missing_total_is_the_first_months_charge_in_months_0_and_1_only() -> None:
    assert [_with_total(month, 20.5, None).total_charges for month in (0, 1)] == [20.5, 20.5]
    with pytest.raises(ValidationError, match="required after the first month"):
        _with_total(2, 20.5, None)


def _with_total(tenure: int, monthly: float, total: float | None) -> CustomerV2:
    fields = {"tenure_months": tenure, "monthly_charges": monthly, "total_charges": total}
    return CustomerV2.model_validate({**EXAMPLE, **fields})
