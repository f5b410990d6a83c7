from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from churn_serving.features.columns import (
    COLUMN_NAMES,
    CONTRACT_TYPES,
    FEATURE_NAMES,
    PAYMENT_METHODS,
)
from churn_serving.features.rows import customer_row, feature_matrix, verification_matrix
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from churn_serving.learning.dataset import Dataset


def test_the_eight_features_stand_in_the_order_of_the_contract() -> None:
    assert FEATURE_NAMES == (
        "tenure_months",
        "monthly_charges",
        "total_charges",
        "num_products",
        "has_phone_service",
        "has_internet",
        "contract_type",
        "payment_method",
    )
    assert CONTRACT_TYPES == ("month-to-month", "one-year", "two-year")
    assert PAYMENT_METHODS == ("electronic", "mailed", "bank", "credit")


def test_the_thirteen_columns_name_every_category_once() -> None:
    assert len(COLUMN_NAMES) == len(set(COLUMN_NAMES)) == 13
    assert COLUMN_NAMES[:6] == FEATURE_NAMES[:6]
    assert COLUMN_NAMES[6] == "contract_type=month-to-month"
    assert COLUMN_NAMES[-1] == "payment_method=credit"


def test_a_customer_becomes_one_number_per_column(customer: dict[str, Any]) -> None:
    row = customer_row(Customer(**customer))
    assert dict(zip(COLUMN_NAMES, row, strict=True)) == {
        "tenure_months": 24,
        "monthly_charges": 70.5,
        "total_charges": 1692.0,
        "num_products": 3,
        "has_phone_service": 1,
        "has_internet": 0,
        "contract_type=month-to-month": 0,
        "contract_type=one-year": 1,
        "contract_type=two-year": 0,
        "payment_method=electronic": 0,
        "payment_method=mailed": 0,
        "payment_method=bank": 0,
        "payment_method=credit": 1,
    }


@pytest.mark.parametrize("contract", CONTRACT_TYPES)
@pytest.mark.parametrize("payment", PAYMENT_METHODS)
def test_each_category_sets_its_own_column_and_no_other(
    contract: str, payment: str, customer: dict[str, Any]
) -> None:
    row = customer_row(
        Customer(**{**customer, "contract_type": contract, "payment_method": payment})
    )
    on = {name for name, value in zip(COLUMN_NAMES[6:], row[6:], strict=True) if value == 1}
    assert on == {f"contract_type={contract}", f"payment_method={payment}"}
    assert sum(row[6:]) == 2


def test_serving_makes_the_row_that_training_made(telco: Dataset) -> None:
    first_public_customer = (
        '{"tenure_months": 1, "monthly_charges": 29.85, "total_charges": 29.85, "num_products": 2,'
        ' "has_phone_service": false, "has_internet": true, "contract_type": "month-to-month",'
        ' "payment_method": "electronic"}'
    )
    row = customer_row(Customer.model_validate_json(first_public_customer))
    np.testing.assert_array_equal(feature_matrix([row]), telco.X[:1])


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_the_matrix_has_a_line_per_row_and_holds_doubles(
    rows: int, customer: dict[str, Any]
) -> None:
    row = customer_row(Customer(**customer))
    X = feature_matrix([row] * rows)
    assert X.shape == (rows, 13)
    assert X.dtype == np.float64
    assert X.tolist() == [list(row)] * rows


def test_a_row_of_another_length_is_no_matrix() -> None:
    with pytest.raises(ValueError, match="reshape"):
        feature_matrix([(1.0, 2.0)])


def test_the_verification_matrix_covers_the_whole_schema() -> None:
    X = verification_matrix()
    assert X.shape == (512, 13)
    assert X[:, 0].min() < 5
    assert X[:, 0].max() > 115
    assert X[:, 1].min() < 10
    assert X[:, 1].max() > 490
    assert (X[:, 2] >= X[:, 1]).all()
    assert set(X[:, 3]) == set(range(1, 11))
    assert (X[:, 4:].min(axis=0) == 0).all()
    assert (X[:, 4:].max(axis=0) == 1).all()
    assert (X[:, 6:9].sum(axis=1) == 1).all()
    assert (X[:, 9:].sum(axis=1) == 1).all()


def test_the_verification_matrix_is_the_same_each_time_for_a_seed() -> None:
    np.testing.assert_array_equal(verification_matrix(20, seed=3), verification_matrix(20, seed=3))
    assert (verification_matrix(20, seed=3) != verification_matrix(20, seed=4)).any()
