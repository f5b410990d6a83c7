from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from churn_serving.learning.candidates import KINDS, churn_probabilities, fit
from churn_serving.learning.dataset import _public_file
from churn_serving.learning.measuring.fields import cost_of_fields, raw_matrix
from churn_serving.learning.measuring.subgroups import blind_spots, subgroups
from churn_serving.learning.splits import folds, number_customers

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Dataset


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """The raw public table, every cell as text."""
    return pd.read_csv(_public_file(), dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def probabilities(telco: Dataset) -> FloatArray:
    return churn_probabilities(fit(KINDS[0], telco.X, telco.y, 0), telco.X)


def test_each_kind_of_customer_is_measured_apart(
    telco: Dataset, table: pd.DataFrame, probabilities: FloatArray
) -> None:
    found = {g.name: g for g in subgroups(telco.X, telco.y, probabilities, 0.33, table)}
    assert list(found) == [
        *("no internet", "internet"),
        *("month-to-month", "one-year", "two-year"),
        *("senior", "younger"),
    ]
    two_years = (table.Contract == "Two year").to_numpy()
    group = found["two-year"]
    assert (group.rows, group.left) == (two_years.sum(), telco.y[two_years].sum()) == (1695, 48)
    assert group.predicted == pytest.approx(probabilities[two_years].mean())
    assert found["senior"].rows == (table.SeniorCitizen == "1").sum() == 1142
    assert found["no internet"].rows == (table.InternetService == "No").sum()
    month = (table.Contract == "Month-to-month").to_numpy()
    flagged = probabilities[month] >= 0.33
    assert found["month-to-month"].found == telco.y[month][flagged].sum()
    assert found["month-to-month"].flagged == pytest.approx(flagged.mean())


def test_it_is_said_that_no_two_year_customer_who_left_is_found(
    telco: Dataset, probabilities: FloatArray
) -> None:
    said = blind_spots(subgroups(telco.X, telco.y, probabilities, 0.33), 0.33)
    assert (
        "two-year: none of the 48 customers who left is found at the threshold 0.330 (2.8% of the "
        "1,695 left)." in said
    )
    assert not any("month-to-month" in each for each in said)


def test_seniors_are_left_out_where_nobody_knows_them(
    telco: Dataset, probabilities: FloatArray
) -> None:
    assert {g.by for g in subgroups(telco.X, telco.y, probabilities, 0.33)} == {
        "contract_type",
        "has_internet",
    }


def test_a_kind_of_whom_nobody_left_has_no_recall_and_no_auc(telco: Dataset) -> None:
    stayed = np.zeros(telco.rows, np.int64)
    found = subgroups(telco.X, stayed, np.full(telco.rows, 0.2), 0.5)
    for group in found:
        kept = group.as_json()
        assert "recall" not in kept
        assert "auc" not in kept
        json.dumps(kept, allow_nan=False)
    assert blind_spots(found, 0.5) == []


def test_a_few_leavers_who_are_not_found_prove_nothing(telco: Dataset) -> None:
    y = np.zeros(telco.rows, np.int64)
    y[:4] = 1
    assert blind_spots(subgroups(telco.X, y, np.full(telco.rows, 0.2), 0.5), 0.5) == []


def test_all_nineteen_raw_columns_become_numbers(table: pd.DataFrame) -> None:
    matrix, names = raw_matrix(table)
    assert len(names) == 19
    assert not {"customerID", "Churn"} & set(names)
    assert matrix.shape == (7043, 45)
    assert np.isfinite(matrix).all()


def test_the_eight_fields_cost_little_against_all_columns(
    telco: Dataset, table: pd.DataFrame
) -> None:
    parts = folds(number_customers(np.arange(telco.rows), telco.y), parts=5, repeats=1, seed=42)
    cost = cost_of_fields(table, telco.X, telco.y, parts, seed=42)
    assert cost["columns"] == 19
    assert cost["fields"] == pytest.approx(0.841, abs=0.002)
    assert cost["all_columns"] == pytest.approx(0.845, abs=0.002)
    difference = cost["difference"]
    assert difference["low"] < difference["value"] < difference["high"] < 0.002
    assert difference["value"] == pytest.approx(cost["fields"] - cost["all_columns"])
