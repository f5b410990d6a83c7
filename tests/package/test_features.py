from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError, create_model

from churn_serving import fields as plain
from churn_serving.features.columns import (
    CATEGORIES,
    COLUMN_NAMES,
    FEATURE_NAMES,
    bounds_of,
    categories_of,
    column_names_of,
)
from churn_serving.features.rows import (
    customer_row,
    feature_matrix,
    row_function_of,
    verification_matrix,
)
from churn_serving.schema import EXAMPLE, Customer, Request

if TYPE_CHECKING:
    from pydantic import BaseModel

    from churn_serving.learning.dataset import Dataset

# The same customers each time, however slow the machine is.
steady = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

# What the models of version 0.1 were trained with, in this order.
COLUMNS_OF_0_1: Final = (
    "tenure_months",
    "monthly_charges",
    "total_charges",
    "num_products",
    "has_phone_service",
    "has_internet",
    "contract_type=month-to-month",
    "contract_type=one-year",
    "contract_type=two-year",
    "payment_method=electronic",
    "payment_method=mailed",
    "payment_method=bank",
    "payment_method=credit",
)

NUMBER: Final[Any] = (float, Field(ge=-5, le=5))
CATEGORY: Final[Any] = (Literal["low", "high"], ...)
FLAG: Final[Any] = (bool, ...)

# The schema, and schemas that it may become.
SCHEMAS: Final[list[type[BaseModel]]] = [
    Customer,
    create_model("FlagAtTheEnd", __base__=Customer, flag=FLAG),
    create_model("NumberAtTheEnd", __base__=Customer, number=NUMBER),
    create_model("CategoryAtTheEnd", __base__=Customer, flag=FLAG, category=CATEGORY),
    create_model("CategoryFirst", __base__=Request, category=CATEGORY, number=NUMBER),
    create_model("OneNumberFirst", __base__=Request, number=NUMBER, category=CATEGORY, flag=FLAG),
    create_model("NoCategory", __base__=Request, number=NUMBER, flag=FLAG),
    create_model("OneFlag", __base__=Request, flag=FLAG),
]


def customers_of(model: type[BaseModel]) -> st.SearchStrategy[BaseModel]:
    """Valid customers of a schema."""
    categories, bounds = categories_of(model), bounds_of(model)

    def values(name: str, kind: object) -> st.SearchStrategy[Any]:
        if name in categories:
            return st.sampled_from(categories[name])
        if kind is bool:
            return st.booleans()
        low, high = bounds[name]
        return st.integers(int(low), int(high)) if kind is int else st.floats(low, high)

    def valid(customer: dict[str, Any]) -> bool:
        try:
            model.model_validate(customer)
        except ValidationError:
            return False
        return True

    fields = {name: values(name, field.annotation) for name, field in model.model_fields.items()}
    return st.fixed_dictionaries(fields).filter(valid).map(model.model_validate)


def naive_row(customer: BaseModel, columns: tuple[str, ...]) -> list[float]:
    """What each column says, read from its name."""
    row = []
    for column in columns:
        name, is_category, value = column.partition("=")
        known = getattr(customer, name)
        row.append(float(known == value) if is_category else float(known))
    return row


def test_the_columns_stand_in_the_order_of_the_fields_and_name_every_category_once() -> None:
    assert len(set(COLUMN_NAMES)) == len(COLUMN_NAMES)
    fields = [name.partition("=")[0] for name in COLUMN_NAMES]
    assert tuple(dict.fromkeys(fields)) == FEATURE_NAMES == tuple(Customer.model_fields)


def test_the_fields_as_plain_data_say_what_the_schema_says() -> None:
    kinds: dict[Any, Any] = {int: "whole", float: "number", bool: "flag"}
    bounds = bounds_of(Customer)
    said = {
        name: plain.Field("category", values=categories_of(Customer)[name])
        if name in categories_of(Customer)
        else plain.Field(kinds[field.annotation], *bounds.get(name, ()))
        for name, field in Customer.model_fields.items()
    }
    assert list(said.items()) == list(plain.FIELDS.items())
    assert column_names_of(Customer) == COLUMN_NAMES


def test_the_columns_of_version_0_1_keep_their_names_and_order() -> None:
    assert tuple(name for name in COLUMN_NAMES if name in COLUMNS_OF_0_1) == COLUMNS_OF_0_1


@pytest.mark.parametrize("kind", [str, float | None, list[int]])
def test_a_field_that_no_column_would_show_to_the_model_is_no_field(kind: Any) -> None:
    model = create_model("Model", __base__=Customer, note=(kind, ...))
    with pytest.raises(TypeError, match="No rule makes columns of the field 'note'"):
        column_names_of(model)


def test_every_number_has_a_smallest_and_a_largest_value() -> None:
    kinds = {name: field.annotation for name, field in Customer.model_fields.items()}
    assert bounds_of(Customer).keys() == {name for name in kinds if kinds[name] in {int, float}}


@pytest.mark.parametrize("model", SCHEMAS, ids=lambda model: model.__name__)
@steady
@given(data=st.data())
def test_a_row_says_of_each_column_what_its_name_says(
    model: type[BaseModel], data: st.DataObject
) -> None:
    customer = data.draw(customers_of(model))
    assert list(row_function_of(model)(customer)) == naive_row(customer, column_names_of(model))


@steady
@given(customer=customers_of(Customer))
def test_a_request_becomes_the_row_of_its_customer(customer: Customer) -> None:
    body = TypeAdapter(Customer).dump_json(customer)
    assert list(customer_row(Customer.model_validate_json(body))) == naive_row(
        customer, COLUMN_NAMES
    )


def test_a_customer_becomes_one_number_per_column(customer: dict[str, Any]) -> None:
    row = customer_row(Customer(**customer))
    assert list(row) == naive_row(Customer(**customer), COLUMN_NAMES)
    said = dict(zip(COLUMN_NAMES, row, strict=True))
    assert [said[name] for name in COLUMNS_OF_0_1] == [
        24,
        70.5,
        1692,
        3,
        1,
        0,
        *(0, 1, 0),
        *(0, 0, 0, 1),
    ]


def test_serving_makes_the_row_that_training_made(telco: Dataset) -> None:
    changes = {"tenure_months": 1, "monthly_charges": 29.85, "total_charges": 29.85}
    first = {**EXAMPLE, **changes, "has_phone_service": False}
    row = customer_row(Customer.model_validate_json(json.dumps(first)))
    np.testing.assert_array_equal(feature_matrix([row]), telco.X[:1])


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_the_matrix_has_a_line_per_row_and_holds_doubles(
    rows: int, customer: dict[str, Any]
) -> None:
    row = customer_row(Customer(**customer))
    X = feature_matrix([row] * rows)
    assert X.shape == (rows, len(COLUMN_NAMES))
    assert X.dtype == np.float64
    assert X.tolist() == [list(row)] * rows


def test_a_row_of_another_length_is_no_matrix() -> None:
    with pytest.raises(ValueError, match="reshape"):
        feature_matrix([(1.0, 2.0)])


def test_the_verification_matrix_covers_the_whole_schema() -> None:
    X = verification_matrix()
    assert X.shape == (512, len(COLUMN_NAMES))
    columns = dict(zip(COLUMN_NAMES, X.T, strict=True))
    bounds = bounds_of(Customer)
    for name, column in columns.items():
        low, high = bounds.get(name, (0, 1))
        assert (column.min(), column.max()) == (low, high), name
        if name in bounds:  # the edges come often, but most lie between
            assert ((low < column) & (column < high)).mean() > 0.5, name
        else:  # a flag, or a value of a category
            assert 0.1 < column.mean() < 0.9, name
    for name, values in CATEGORIES.items():
        assert (sum(columns[f"{name}={value}"] for value in values) == 1).all()
    # Many totals are where the real ones are, and a tree decides.
    assert ((columns["total_charges"] > 10) & (columns["total_charges"] < 10_000)).mean() > 0.25


def test_the_verification_matrix_is_the_same_each_time_for_a_seed() -> None:
    np.testing.assert_array_equal(verification_matrix(20, seed=3), verification_matrix(20, seed=3))
    assert (verification_matrix(20, seed=3) != verification_matrix(20, seed=4)).any()
