from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from churn_serving.errors import DataError
from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.features.layouts import LAYOUTS
from churn_serving.learning import dataset
from churn_serving.learning.dataset import PUBLIC_SHA256, load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Dataset

RAW_CATEGORIES = {
    "PhoneService": ("Yes", "No"),
    "MultipleLines": ("Yes", "No", "No phone service"),
    "InternetService": ("DSL", "Fiber optic", "No"),
    "OnlineSecurity": ("Yes", "No", "No internet service"),
    "OnlineBackup": ("Yes", "No", "No internet service"),
    "DeviceProtection": ("Yes", "No", "No internet service"),
    "TechSupport": ("Yes", "No", "No internet service"),
    "StreamingTV": ("Yes", "No", "No internet service"),
    "StreamingMovies": ("Yes", "No", "No internet service"),
    "Contract": ("Month-to-month", "One year", "Two year"),
    "PaymentMethod": (
        "Electronic check",
        "Mailed check",
        "Bank transfer (automatic)",
        "Credit card (automatic)",
    ),
    "Churn": ("Yes", "No"),
}
RAW_NUMBERS = ("tenure", "MonthlyCharges", "TotalCharges")


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[[pd.DataFrame], str]:
    """Why a table is refused, written as CSV."""

    def refuse(table: pd.DataFrame) -> str:
        path = tmp_path / "table.csv"
        table.to_csv(path, index=False)
        return _refusal_of(path)

    return refuse


def _refusal_of(path: Path) -> str:
    with pytest.raises(DataError) as refused:
        load_dataset(path)
    return str(refused.value)


def _spoiled(table: pd.DataFrame, column: str, value: str | float, rows: int = 1) -> pd.DataFrame:
    """Return the table with ``value`` in the rows from the third on."""
    spoiled = table.astype({column: object})
    spoiled.loc[spoiled.index[2 : 2 + rows], column] = value
    return spoiled


def column(X: FloatArray, name: str) -> FloatArray:
    """Return a column of the feature matrix."""
    return X[:, COLUMN_NAMES.index(name)]


def test_every_field_is_made_of_columns_of_each_kind_of_table() -> None:
    for layout in LAYOUTS:
        assert layout.fields.keys() == set(FEATURE_NAMES)


def test_the_public_table_has_7043_customers_of_whom_26_54_percent_left(telco: Dataset) -> None:
    assert telco.rows == 7043
    assert telco.X.shape == (7043, len(COLUMN_NAMES))
    assert telco.X.dtype == np.float64
    assert set(telco.y.tolist()) == {0, 1}
    assert round(100 * telco.y.mean(), 2) == 26.54
    assert telco.sha256 == PUBLIC_SHA256
    assert "IBM Telco" in telco.source


def test_the_first_public_customer_has_these_features(telco: Dataset) -> None:
    features = {
        "tenure_months": 1,
        "monthly_charges": 29.85,
        "total_charges": 29.85,
        "num_products": 2,  # internet and online backup
        "has_phone_service": 0,
        "has_internet": 1,
        "contract_type=month-to-month": 1,
        "contract_type=one-year": 0,
        "contract_type=two-year": 0,
        "payment_method=electronic": 1,
        "payment_method=mailed": 0,
        "payment_method=bank": 0,
        "payment_method=credit": 0,
    }
    row = dict(zip(COLUMN_NAMES, telco.X[0].tolist(), strict=True))
    assert {name: row[name] for name in features} == features
    assert telco.y[0] == 0


def test_the_eleven_public_customers_in_their_first_month_owe_that_month(telco: Dataset) -> None:
    tenure, monthly, total = (
        column(telco.X, name) for name in ("tenure_months", "monthly_charges", "total_charges")
    )
    assert (tenure == 0).sum() == 11
    assert (total == monthly)[tenure == 0].all()


def test_services_are_counted_as_products(raw: pd.DataFrame, tmp_path: Path) -> None:
    add_ons = list(RAW_CATEGORIES)[3:9]
    raw.loc[0, ["PhoneService", "MultipleLines", "InternetService"]] = ["Yes", "Yes", "DSL"]
    raw.loc[0, add_ons] = "Yes"
    raw.loc[1, ["PhoneService", "MultipleLines", "InternetService"]] = ["Yes", "No", "No"]
    raw.loc[1, add_ons] = "No internet service"
    raw.to_csv(tmp_path / "raw.csv", index=False)
    assert column(load_dataset(tmp_path / "raw.csv").X, "num_products")[:2].tolist() == [9, 1]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "pq", "PARQUET"])
def test_a_table_of_the_fields_reads_like_the_raw_table_it_was_made_of(
    suffix: str, own: pd.DataFrame, small: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / f"own.{suffix}"
    if suffix == "csv":
        own.to_csv(path, index=False)
    else:
        own.to_parquet(path)
    read = load_dataset(path)
    np.testing.assert_array_equal(read.X, small.X)
    np.testing.assert_array_equal(read.y, small.y)
    assert read.source == path.name
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_raw_parquet_table_with_gaps_and_numbers_reads_like_its_csv(
    raw: pd.DataFrame, telco: Dataset, tmp_path: Path
) -> None:
    table = raw.assign(
        tenure=raw["tenure"].astype(float),
        MonthlyCharges=raw["MonthlyCharges"].astype(float),
        TotalCharges=pd.to_numeric(raw["TotalCharges"], errors="coerce"),
        Contract=raw["Contract"].astype("category"),
    )
    table.loc[0, ["tenure", "TotalCharges"]] = [0.0, np.nan]
    table.to_parquet(tmp_path / "raw.parquet")
    read = load_dataset(tmp_path / "raw.parquet")
    assert column(read.X, "tenure_months")[0] == 0
    assert column(read.X, "total_charges")[0] == column(read.X, "monthly_charges")[0] == 29.85
    np.testing.assert_array_equal(read.X[1:], telco.X[1 : len(raw)])


@pytest.mark.parametrize(
    ("left", "stayed"), [("Yes", "No"), ("1", "0"), ("true", "false"), ("True", "False")]
)
def test_own_labels_may_be_written_in_each_usual_way(
    left: str, stayed: str, own: pd.DataFrame, small: Dataset, tmp_path: Path
) -> None:
    table = own.assign(churn=np.where(own["churn"] == 1, left, stayed))
    table.to_csv(tmp_path / "own.csv", index=False)
    np.testing.assert_array_equal(load_dataset(tmp_path / "own.csv").y, small.y)


def test_column_order_further_columns_spaces_and_a_byte_order_mark_change_nothing(
    raw: pd.DataFrame, small: Dataset, tmp_path: Path
) -> None:
    table = raw[raw.columns[::-1]].assign(note="é, quoted")
    table = table.rename(columns=lambda name: f" {name} ").apply(lambda cells: " " + cells + " ")
    table.to_csv(tmp_path / "raw.csv", index=False, encoding="utf-8-sig")
    np.testing.assert_array_equal(load_dataset(tmp_path / "raw.csv").X, small.X)


@pytest.mark.parametrize("column", [*RAW_NUMBERS, *RAW_CATEGORIES])
def test_refuses_a_raw_table_without_one_of_its_columns(
    column: str, raw: pd.DataFrame, refusal: Callable[[pd.DataFrame], str]
) -> None:
    message = refusal(raw.drop(columns=column))
    assert message.startswith(f"Missing column '{column}': expected the columns 'tenure', ")
    assert "(the raw Telco table), found 'customerID', 'gender'" in message


@pytest.mark.parametrize("column", [*FEATURE_NAMES, "churn"])
def test_refuses_an_own_table_without_one_of_its_columns(
    column: str, own: pd.DataFrame, refusal: Callable[[pd.DataFrame], str]
) -> None:
    message = refusal(own.drop(columns=column))
    assert message.startswith(f"Missing column '{column}': expected the columns 'tenure_months'")


def test_refuses_a_column_that_is_there_twice(
    raw: pd.DataFrame, refusal: Callable[[pd.DataFrame], str]
) -> None:
    raw.insert(0, " TotalCharges", raw["TotalCharges"])
    assert "'TotalCharges'" in refusal(raw)


@pytest.mark.parametrize("column", RAW_CATEGORIES)
def test_refuses_an_unknown_category_with_column_rows_and_choices(
    column: str, raw: pd.DataFrame, refusal: Callable[[pd.DataFrame], str]
) -> None:
    message = refusal(_spoiled(raw, column, "Maybe"))
    choices = ", ".join(f"'{choice}'" for choice in RAW_CATEGORIES[column])
    assert message == f"Column '{column}', row 3: expected one of {choices}, found 'Maybe'."


def test_a_category_counts_in_any_case_and_with_any_separators(
    raw: pd.DataFrame, small: Dataset, tmp_path: Path
) -> None:
    table = raw.assign(
        Contract=raw["Contract"].str.lower().str.replace(" ", "_"),
        PaymentMethod=raw["PaymentMethod"].str.upper(),
        Partner=raw["Partner"].str.lower(),
    )
    table.to_csv(tmp_path / "raw.csv", index=False)
    np.testing.assert_array_equal(load_dataset(tmp_path / "raw.csv").X, small.X)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (1, "row 3:"),
        (2, "rows 3, 4:"),
        (5, "rows 3, 4, 5, 6, 7:"),
        (6, "rows 3, 4, 5, 6, 7 and 1 more:"),
        (300, "rows 3, 4, 5, 6, 7 and 295 more:"),
    ],
)
@pytest.mark.parametrize(
    ("column", "bad"),
    [("Contract", "Weekly"), ("MonthlyCharges", "cheap"), ("Churn", "Perhaps")],
)
def test_a_refusal_counts_rows_from_one_and_names_five_at_most(
    *,
    column: str,
    bad: str,
    rows: int,
    named: str,
    raw: pd.DataFrame,
    refusal: Callable[[pd.DataFrame], str],
) -> None:
    message = refusal(_spoiled(raw, column, bad, rows))
    assert message.startswith(f"Column '{column}', {named} expected ")


@pytest.mark.parametrize("column", RAW_NUMBERS)
@pytest.mark.parametrize("bad", ["twelve", "12,5", "1_000", "0x10", "", "$5", "5%", "\uff11\uff12"])
def test_refuses_text_in_a_number(
    column: str, bad: str, raw: pd.DataFrame, refusal: Callable[[pd.DataFrame], str]
) -> None:
    message = refusal(_spoiled(raw, column, bad))
    expected = "a whole number" if column == "tenure" else "a number"
    found = f"'{bad}'" if bad else "an empty cell"
    assert message == f"Column '{column}', row 3: expected {expected}, found {found}."


@pytest.mark.parametrize("column", ["tenure_months", "num_products"])
@pytest.mark.parametrize("bad", ["1.5", "nan", "inf", "-inf", "1e400", "one", ""])
def test_refuses_what_is_no_whole_number_where_one_is_needed(
    column: str, bad: str, own: pd.DataFrame, refusal: Callable[[pd.DataFrame], str]
) -> None:
    found = f"'{bad}'" if bad else "an empty cell"
    assert refusal(_spoiled(own, column, bad)) == (
        f"Column '{column}', row 3: expected a whole number, found {found}."
    )


def test_takes_whole_numbers_written_with_a_point(
    own: pd.DataFrame, small: Dataset, tmp_path: Path
) -> None:
    own.astype({"tenure_months": float}).to_csv(tmp_path / "own.csv", index=False)
    np.testing.assert_array_equal(load_dataset(tmp_path / "own.csv").X, small.X)


@pytest.mark.parametrize("column", ["MonthlyCharges", "TotalCharges"])
@pytest.mark.parametrize("bad", ["nan", "inf", "-Infinity", "1e999"])
def test_refuses_nan_and_infinity_in_the_raw_column_it_names(
    column: str, bad: str, raw: pd.DataFrame, refusal: Callable[[pd.DataFrame], str]
) -> None:
    message = refusal(_spoiled(raw, column, bad))
    assert message.startswith(f"Column '{column}', row 3: expected a finite number, found ")


@pytest.mark.parametrize(
    ("column", "bad", "expected"),
    [
        ("tenure", "-1", "greater than or equal to 0"),
        ("tenure", "121", "less than or equal to 120"),
        ("MonthlyCharges", "-0.01", "greater than or equal to 0"),
        ("MonthlyCharges", "500.01", "less than or equal to 500"),
        ("TotalCharges", "-5", "greater than or equal to 0"),
        ("TotalCharges", "1000000.01", "less than or equal to 1000000"),
        ("TotalCharges", "0.01", "greater than or equal to monthly_charges"),
    ],
)
def test_refuses_an_out_of_range_number_in_the_raw_column_it_names(
    column: str,
    bad: str,
    expected: str,
    raw: pd.DataFrame,
    refusal: Callable[[pd.DataFrame], str],
) -> None:
    assert refusal(_spoiled(raw, column, bad)) == (
        f"Column '{column}', row 3: expected {expected}, found '{bad}'."
    )


@pytest.mark.parametrize(
    ("column", "bad", "expected"),
    [
        ("tenure_months", -1, "greater than or equal to 0"),
        ("tenure_months", 121, "less than or equal to 120"),
        ("monthly_charges", -0.01, "greater than or equal to 0"),
        ("monthly_charges", 500.01, "less than or equal to 500"),
        ("monthly_charges", "nan", "a finite number"),
        ("monthly_charges", "inf", "a finite number"),
        ("monthly_charges", "cheap", "a number"),
        ("total_charges", -1, "greater than or equal to 0"),
        ("total_charges", 0.01, "greater than or equal to monthly_charges"),
        ("total_charges", "nan", "a finite number"),
        ("total_charges", "", "a number"),
        ("num_products", 0, "greater than or equal to 1"),
        ("num_products", 11, "less than or equal to 10"),
        ("has_phone_service", "maybe", "one of 'true', 'false', '1', '0', 'Yes', 'No'"),
        ("has_internet", "", "one of 'true', 'false', '1', '0', 'Yes', 'No'"),
        ("contract_type", "weekly", "one of 'month-to-month', 'one-year', 'two-year'"),
        ("payment_method", "Cash", "one of 'electronic', 'mailed', 'bank', 'credit'"),
        ("churn", "2", "one of 'true', 'false', '1', '0', 'Yes', 'No'"),
        ("churn", "", "one of 'true', 'false', '1', '0', 'Yes', 'No'"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_refuses_an_own_table_with_a_bad_cell_and_says_what_was_expected(
    *, column: str, bad: str | float, expected: str, suffix: str, own: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / f"own.{suffix}"
    table = _spoiled(own, column, bad)
    if suffix == "csv":
        table.to_csv(path, index=False)
    else:
        table.astype({column: str}).to_parquet(path)
    assert _refusal_of(path).startswith(f"Column '{column}', row 3: expected {expected}, found ")


def test_a_missing_total_is_refused_after_the_first_month(
    raw: pd.DataFrame, refusal: Callable[[pd.DataFrame], str]
) -> None:
    raw.loc[2, ["tenure", "TotalCharges"]] = ["2", " "]
    assert refusal(raw) == ("Column 'TotalCharges', row 3: expected a number, found an empty cell.")


@pytest.mark.parametrize("churn", ["Yes", "No"])
def test_refuses_a_table_of_one_class(
    churn: str, raw: pd.DataFrame, refusal: Callable[[pd.DataFrame], str]
) -> None:
    message = refusal(raw[raw["Churn"] == churn])
    assert "Column 'Churn' holds only one class" in message
    assert "customers who left and customers who stayed" in message


def test_refuses_a_header_without_rows(
    raw: pd.DataFrame, own: pd.DataFrame, refusal: Callable[[pd.DataFrame], str]
) -> None:
    assert refusal(raw.head(0)) == "The table has no rows."
    assert refusal(own.head(0)) == "The table has no rows."


def test_refuses_a_short_row_by_the_cells_it_has(raw: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    lines = raw.to_csv(index=False).splitlines()
    lines[3] = lines[3].rpartition(",")[0]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert _refusal_of(path) == "short.csv: row 3 has 20 cells, the header 21."


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_refuses_noise_of_any_kind_without_an_error_of_another_kind(
    suffix: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / f"noise.{suffix}"
    alphabet = np.frombuffer(b'\x00\xff",;\n\r 1a', dtype=np.uint8)
    for number in range(100):
        path.write_bytes(random.choice(alphabet, number).tobytes())
        assert _refusal_of(path)


def test_refuses_a_public_table_that_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "churn.csv"
    changed.write_bytes(dataset._public_file().read_bytes() + b"\n")
    monkeypatch.setattr(dataset, "_public_file", lambda: changed)
    with pytest.raises(DataError, match=r"is not the public table: its sha256 is [0-9a-f]{64}"):
        load_dataset()


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("no-such-package-as-this", "The public table is not installed"),
        ("pytest", "The package pytest holds no table"),
    ],
)
def test_says_how_to_get_the_public_table(
    package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "PUBLIC_PACKAGE", package)
    with pytest.raises(DataError, match=f"{message}: run 'make setup', or pass your own"):
        load_dataset()


def test_a_dataset_cannot_be_changed(small: Dataset) -> None:
    changed: Any = small
    with pytest.raises(AttributeError):
        changed.source = "elsewhere"
