"""What the cells of a table mean, however they are spelled; and what is kept beside X and y."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from churn_serving.errors import DataError
from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.learning.dataset import _public_file, load_dataset
from churn_serving.learning.tables import groups

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from churn_serving.learning.dataset import Dataset

    Read = Callable[..., Dataset]

TOTAL = COLUMN_NAMES.index("total_charges")
MONTHLY = COLUMN_NAMES.index("monthly_charges")


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a table that was written as CSV."""

    def read_csv(table: pd.DataFrame, *, time: str | None = None, **how: Any) -> Dataset:
        path = tmp_path / "table.csv"
        table.to_csv(path, index=False, **how)
        return load_dataset(path, time=time)

    return read_csv


@pytest.fixture
def four(own: pd.DataFrame) -> pd.DataFrame:
    """Four customers of both labels, without trouble."""
    table = own.head(4).assign(
        tenure_months=[34, 2, 5, 8],
        monthly_charges=[56.95, 20.5, 30, 40],
        total_charges=[1891.5, 41, 150.25, 320],
        churn=[0, 1, 0, 1],
    )
    return table.astype({"monthly_charges": object, "total_charges": object})


def refusal_of(read: Read, table: pd.DataFrame, **options: Any) -> str:
    with pytest.raises(DataError) as refused:
        read(table, **options)
    return str(refused.value)


class TestNames:
    def test_ibms_own_table_of_33_columns_reads_like_the_public_one(
        self, read: Read, raw: pd.DataFrame, small: Dataset
    ) -> None:
        spaced = {
            "customerID": "CustomerID",
            "SeniorCitizen": "Senior Citizen",
            "tenure": "Tenure Months",
            "PhoneService": "Phone Service",
            "MultipleLines": "Multiple Lines",
            "InternetService": "Internet Service",
            "OnlineSecurity": "Online Security",
            "OnlineBackup": "Online Backup",
            "DeviceProtection": "Device Protection",
            "TechSupport": "Tech Support",
            "StreamingTV": "Streaming TV",
            "StreamingMovies": "Streaming Movies",
            "PaperlessBilling": "Paperless Billing",
            "PaymentMethod": "Payment Method",
            "MonthlyCharges": "Monthly Charges",
            "TotalCharges": "Total Charges",
            "gender": "Gender",
            "Churn": "Churn Label",
        }
        further: dict[str, Any] = {
            "Count": 1,
            "Country": "United States",
            "State": "California",
            "City": "Los Angeles",
            "Zip Code": 90003,
            "Lat Long": "33.964131, -118.272783",
            "Latitude": 33.964131,
            "Longitude": -118.272783,
            "Churn Value": (raw["Churn"] == "Yes").astype(int),
            "Churn Score": 86,
            "CLTV": 3239,
            "Churn Reason": "Competitor made better offer",
        }
        table = raw.rename(columns=spaced).assign(**further)
        assert len(table.columns) == 33
        dataset = read(table)
        np.testing.assert_array_equal(dataset.X, small.X)
        np.testing.assert_array_equal(dataset.y, small.y)
        assert dataset.ids is not None
        assert "the label is 'Churn Value', customers by 'CustomerID'" in dataset.notices[0]

    @pytest.mark.parametrize(
        "spell",
        [
            str.upper,
            lambda name: name.replace("_", " ").title(),
            lambda name: name.replace("_", "-"),
            lambda name: name.replace("_", "."),
            lambda name: "".join(map(str.capitalize, name.split("_"))),
            lambda name: f" {name}\u200b",
        ],
    )
    def test_names_count_in_any_case_and_with_any_separators(
        self, spell: Callable[[str], str], read: Read, own: pd.DataFrame, small: Dataset
    ) -> None:
        np.testing.assert_array_equal(read(own.rename(columns=spell)).X, small.X)

    @pytest.mark.parametrize(
        ("left", "stayed"),
        [
            ("YES", "no"),
            ("TRUE", "False"),
            ("1", "0"),
            ("1.0", "0.0"),
            ("y", "N"),
            ("T", "f"),
            (" yes ", "NO"),
        ],
    )
    def test_labels_of_either_kind_of_table_are_written_in_each_usual_way(
        self,
        *,
        left: str,
        stayed: str,
        read: Read,
        raw: pd.DataFrame,
        own: pd.DataFrame,
        small: Dataset,
    ) -> None:
        for table, label in ((raw, "Churn"), (own, "churn")):
            spelled = table.assign(**{label: np.where(small.y == 1, left, stayed)})
            np.testing.assert_array_equal(read(spelled).y, small.y)

    @pytest.mark.parametrize("label", ["-1", "2", "10", "0.5", "maybe", "-", "no internet"])
    def test_any_other_label_is_refused_and_shown(
        self, label: str, read: Read, own: pd.DataFrame
    ) -> None:
        table = own.astype({"churn": object})
        table.loc[2, "churn"] = label
        message = refusal_of(read, table)
        assert message.startswith("Column 'churn', row 3: expected one of 'true', ")
        assert message.endswith(f"found '{label}'.")

    def test_the_fields_may_hold_the_raw_tables_words(
        self, read: Read, own: pd.DataFrame, small: Dataset
    ) -> None:
        table = own.assign(
            contract_type=own["contract_type"].map(
                {
                    "month-to-month": "Month-to-month",
                    "one-year": "One year",
                    "two-year": "Two Year",
                }
            ),
            payment_method=own["payment_method"].map(
                {
                    "electronic": "Electronic check",
                    "mailed": "Mailed Check",
                    "bank": "Bank transfer (automatic)",
                    "credit": "credit card (automatic)",
                }
            ),
        )
        np.testing.assert_array_equal(read(table).X, small.X)

    def test_the_kind_of_table_is_the_one_that_fits_best(
        self, read: Read, raw: pd.DataFrame, own: pd.DataFrame
    ) -> None:
        without = refusal_of(read, raw.drop(columns=["tenure", "Contract"]))
        assert without.startswith("Missing columns 'tenure', 'Contract': expected the columns")
        assert "(the raw Telco table), found 'customerID'" in without
        without = refusal_of(read, own.drop(columns=["tenure_months"]).assign(tenure=1))
        assert without.startswith("Missing column 'tenure_months': expected the columns")
        assert "(a table of the customer's fields), found 'monthly_charges'" in without

    def test_long_and_odd_names_are_shown_shortened(self, read: Read, own: pd.DataFrame) -> None:
        table = own.drop(columns="churn").assign(**{"a\x1b[31m" + "x" * 100: 1})
        further = pd.DataFrame(1, index=table.index, columns=[f"c{n}" for n in range(100)])
        message = refusal_of(read, pd.concat([table, further], axis=1))
        assert "\x1b" not in message
        assert "xxx…'" in message
        assert "and 69 more." in message

    def test_what_a_cell_holds_is_shown_shortened_and_harmless(
        self, read: Read, four: pd.DataFrame
    ) -> None:
        table = four.assign(monthly_charges="\x1b[31m" + "x" * 100)
        assert refusal_of(read, table) == (
            "Column 'monthly_charges', rows 1, 2, 3, 4: expected a number, "
            f"found '?[31m{'x' * 35}…'."
        )


class TestNumbers:
    @pytest.mark.parametrize(
        ("monthly", "total", "note"),
        [
            ("56.95 20.5 30 40", "1,891.50 41.00 150.25 320", ""),
            ("56,95 20,5 30 40", "1.891,50 41,00 150,25 320", "decimal commas"),
            ("56,95 20,5 30 40", "1891,5 41 150,25 320", "decimal commas"),
            ("56.95 20.5 30 40", "1'891.50 41 150.25 320", ""),
            ("56.95 20.5 30 40", "1\u2019891.50 41 150.25 320", ""),
            ("56,95 20,5 30 40", "1\u202f891,50 41 150,25 320", "decimal commas"),
            ("56,95 20,5 30 40", "1\xa0891,50 41 150,25 320", "decimal commas"),
            ("$56.95 $20.5 $30 $40", "$1,891.50 $41 $150.25 $320", "amounts in '$'"),
            ("US$56.95 US$20.5 US$30 US$40", "1891.5 41 150.25 320", "amounts in 'US$'"),
            ("56,95€ 20,5€ 30€ 40€", "1.891,50€ 41€ 150,25€ 320€", "amounts in '€', decimal"),
            ("+56.95 2.05e1 30. 4E+1", "1891.50 41 150.25 320", ""),
        ],
    )
    @pytest.mark.parametrize("separator", [",", ";"])
    def test_numbers_are_read_as_people_write_them(
        self,
        *,
        monthly: str,
        total: str,
        note: str,
        separator: str,
        read: Read,
        four: pd.DataFrame,
    ) -> None:
        table = four.assign(monthly_charges=monthly.split(" "), total_charges=total.split(" "))
        dataset = read(table, sep=separator)
        assert dataset.X[:, MONTHLY].tolist() == [56.95, 20.5, 30, 40]
        assert dataset.X[:, TOTAL].tolist() == [1891.5, 41, 150.25, 320]
        assert note in dataset.notices[0]

    def test_a_group_of_thousands_is_told_by_other_columns(
        self, read: Read, four: pd.DataFrame
    ) -> None:
        table = four.assign(total_charges=["1,891", "41", "150", "320"])
        assert read(table).X[0, TOTAL] == 1891
        table = table.assign(
            monthly_charges=["56,95", "20,5", "30", "40"],
            total_charges=["1.891", "41", "150", "320"],
        )
        assert read(table).X[0, TOTAL] == 1891

    @pytest.mark.parametrize(
        ("monthly", "total", "refusal"),
        [
            (
                "1 1 1 1",
                "1,891 41 150 320",
                (
                    "Column 'total_charges', row 1: expected a number, found '1,891' (is it 1891 "
                    "or 1.891?)."
                ),
            ),
            (
                "56.95 20,5 30.1 40.1",
                "1891 41 150 320",
                "Column 'monthly_charges', row 2: expected a number, found '20,5'.",
            ),
            (
                "$56.95 20.5 $30 $40",
                "1891 41 150 320",
                (
                    "Column 'monthly_charges', rows 1, 3, 4: expected a number, found '$56.95', "
                    "'$30', '$40'."
                ),
            ),
            (
                "$56 €20 $30 $40",
                "1891 41 150 320",
                (
                    "Column 'monthly_charges', rows 1, 2, 3, 4: expected a number, found '$56', "
                    "'€20', '$30'."
                ),
            ),
            (
                "5% 6% 7% 8%",
                "1891 41 150 320",
                (
                    "Column 'monthly_charges', rows 1, 2, 3, 4: expected a number, found '5%', "
                    "'6%', '7%'."
                ),
            ),
        ],
    )
    def test_what_could_be_two_numbers_or_none_is_refused(
        self, *, monthly: str, total: str, refusal: str, read: Read, four: pd.DataFrame
    ) -> None:
        table = four.assign(monthly_charges=monthly.split(), total_charges=total.split())
        assert refusal_of(read, table) == refusal

    @pytest.mark.parametrize(
        "text", ["1..5", "1,2,3", "12,34.5", "1.23.456", "(5.00)", "--1", "1e", "e5", ".", ",", "+"]
    )
    def test_what_only_looks_like_a_number_is_refused(
        self, text: str, read: Read, four: pd.DataFrame
    ) -> None:
        table = four.assign(monthly_charges=[56.95, text, 30, 40])
        assert f"row 2: expected a number, found '{text}'" in refusal_of(read, table)

    def test_every_number_is_the_one_that_python_reads(
        self, read: Read, four: pd.DataFrame
    ) -> None:
        random = np.random.default_rng(0)
        charges = [repr(number) for number in random.uniform(0, 500, 4000).tolist()]
        table = pd.concat([four] * 1000).assign(monthly_charges=charges, total_charges=500)
        assert read(table).X[:, MONTHLY].tolist() == [float(text) for text in charges]


class TestFirstMonth:
    @pytest.mark.parametrize("missing", ["", " ", "NA", "NULL", "None", "\\N", "nan", "n/a"])
    @pytest.mark.parametrize("month", [0, 1])
    def test_an_empty_total_is_that_months_charge_in_both_kinds_of_table(
        self, *, missing: str, month: int, read: Read, four: pd.DataFrame, raw: pd.DataFrame
    ) -> None:
        tables = {
            "own": four.assign(
                tenure_months=[34, month, 5, 8], total_charges=[1891.5, missing, 150.25, 320]
            )
        }
        raw.loc[1, ["tenure", "TotalCharges"]] = [str(month), missing]
        tables["raw"] = raw
        for table in tables.values():
            dataset = read(table)
            assert dataset.X[1, TOTAL] == dataset.X[1, MONTHLY]
            assert dataset.notices[-1] == (
                "The total charges of 1 customer in the first month were empty: they are that "
                "month's charges."
            )

    def test_a_total_that_is_there_stays(self, read: Read, four: pd.DataFrame) -> None:
        dataset = read(four.assign(tenure_months=[1, 0, 5, 8]))
        assert dataset.X[:, TOTAL].tolist() == [1891.5, 41, 150.25, 320]
        assert len(dataset.notices) == 1


class TestSameCustomer:
    def test_rows_of_one_id_have_one_number(self, read: Read, raw: pd.DataFrame) -> None:
        dataset = read(pd.concat([raw.head(300)] * 10))
        assert dataset.groups is not None
        assert dataset.groups.tolist() == list(range(300)) * 10
        assert dataset.ids is not None
        assert dataset.ids[300] == raw["customerID"][0]
        assert dataset.notices[1].startswith("3,000 rows are of 300 customers: ")

    def test_without_ids_equal_rows_have_one_number(
        self, read: Read, raw: pd.DataFrame, own: pd.DataFrame
    ) -> None:
        for table in (raw.drop(columns="customerID"), own):
            unique = table.drop_duplicates().head(300)
            dataset = read(pd.concat([unique] * 10))
            assert dataset.groups is not None
            assert dataset.ids is None
            once = dataset.groups[: len(unique)]
            np.testing.assert_array_equal(dataset.groups, np.tile(once, 10))

    def test_rows_without_an_id_are_told_apart_by_what_they_hold(
        self, read: Read, raw: pd.DataFrame
    ) -> None:
        table = pd.concat([raw.head(20)] * 2).assign(customerID=["a", "a"] + [" "] * 38)
        dataset = read(table)
        assert dataset.groups is not None
        assert dataset.groups[:2].tolist() == [0, 0]
        assert dataset.groups[22:].tolist() == dataset.groups[2:20].tolist()
        # The customers of the first two rows come again without their id: who could know?
        assert len(set(dataset.groups.tolist())) == 1 + 20

    def test_an_id_with_both_labels_is_named(self, read: Read, raw: pd.DataFrame) -> None:
        ids = raw["customerID"].tolist()
        again = raw.head(5).assign(Churn=np.where(raw["Churn"].head(5) == "Yes", "No", "Yes"))
        notice = read(pd.concat([raw, again])).notices[-1]
        names = ", ".join(f"'{name}'" for name in ids[:3])
        assert notice == f"Customers with both labels, left and stayed: {names} and 2 more."

    def test_two_rows_that_are_mixed_to_one_number_are_still_told_apart(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(groups, "_MIX", np.uint64(0))
        X = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
        first, second, third = groups.same_customer(X, {}, None)
        assert first == third != second

    def test_minus_zero_is_zero(self) -> None:
        assert groups.same_customer(np.array([[0.0], [-0.0]]), {}, None).tolist() == [0, 0]


class TestTime:
    @pytest.mark.parametrize(
        ("texts", "dates"),
        [
            (
                ["2026-01-31", "2026-02-28", "2026-03-31 12:30", "2026-04-30T01:02:03"],
                ["2026-01-31", "2026-02-28", "2026-03-31T12:30", "2026-04-30T01:02:03"],
            ),
            (["2026-01", "2026-02", "2026-03", "2026-04"],) * 2,
            (
                ["31.01.2026", "1.2.2026", "2.2.2026", "3.2.2026"],
                ["2026-01-31", "2026-02-01", "2026-02-02", "2026-02-03"],
            ),
            (
                ["01/31/2026", "02/01/2026", "02/02/2026", "02/03/2026"],
                ["2026-01-31", "2026-02-01", "2026-02-02", "2026-02-03"],
            ),
            (
                ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00+02:00", "2026-01-01", "2026-01-02"],
                ["2026-01-01", "2025-12-31T22:00", "2026-01-01", "2026-01-02"],
            ),
        ],
    )
    def test_dates_are_read(
        self, texts: list[str], dates: list[str], read: Read, four: pd.DataFrame
    ) -> None:
        dataset = read(four.assign(snapshot_date=texts), time="Snapshot Date")
        assert dataset.time is not None
        np.testing.assert_array_equal(dataset.time, np.array(dates, "datetime64[us]"))

    @pytest.mark.parametrize("numbers", [[1, 2, 3, 4], [202601, 202602, 202603, 202604]])
    def test_numbers_are_read(
        self, numbers: list[int], read: Read, four: pd.DataFrame, tmp_path: Path
    ) -> None:
        table = four.assign(month=numbers)
        np.testing.assert_array_equal(read(table, time="month").time, numbers)
        table.astype({"monthly_charges": float, "total_charges": float}).to_parquet(
            tmp_path / "t.parquet"
        )
        np.testing.assert_array_equal(
            load_dataset(tmp_path / "t.parquet", time="month").time, numbers
        )

    def test_timestamps_of_parquet_are_read(self, four: pd.DataFrame, tmp_path: Path) -> None:
        table = four.astype({"monthly_charges": float, "total_charges": float})
        days = pd.date_range("2026-01-01", periods=4)
        for when in (days, days.tz_localize("Europe/Berlin"), days.date):
            table.assign(when=when).to_parquet(tmp_path / "t.parquet")
            time = load_dataset(tmp_path / "t.parquet", time="when").time
            assert time is not None
            assert (np.diff(time) == np.timedelta64(1, "D")).all()

    @pytest.mark.parametrize(
        ("texts", "refusal"),
        [
            (
                ["1.2.2026"] * 4,
                (
                    "rows 1, 2, 3, 4: expected dates like 2026-01-31: day and month cannot be told "
                    "apart, found '1.2.2026'."
                ),
            ),
            (
                ["2026-01-31", "", "2026-02-30", "x"],
                (
                    "rows 2, 3, 4: expected a date like 2026-01-31, or a number, found an empty "
                    "cell, '2026-02-30', 'x'."
                ),
            ),
            (["31.1.2026", "1.13.2026", "x", "y"], "rows 1, 2, 3, 4: expected"),
        ],
    )
    def test_what_is_no_time_is_refused(
        self, texts: list[str], refusal: str, read: Read, four: pd.DataFrame
    ) -> None:
        message = refusal_of(read, four.assign(when=texts), time="when")
        assert message.startswith(f"Column 'when', {refusal}")

    def test_a_missing_time_is_refused_with_what_there_is(
        self, read: Read, four: pd.DataFrame
    ) -> None:
        assert refusal_of(read, four, time="when").startswith(
            "Missing column 'when' for the time: found 'tenure_months', "
        )
        assert "cannot be the time" in refusal_of(read, four, time="churn")


class TestWhatIsKept:
    def test_the_raw_columns_are_kept_for_a_comparison(self, telco: Dataset) -> None:
        raw = telco.raw
        table = pd.read_csv(_public_file(), dtype=str, keep_default_na=False)
        assert raw is not None
        assert set(raw.columns) == set(table.columns) - {"customerID", "Churn"}
        assert len(raw.columns) == 19
        for name in set(raw.columns) - {"tenure", "MonthlyCharges", "TotalCharges"}:
            expected = table[name].replace({"0": "No", "1": "Yes"})
            assert raw[name].astype(str).tolist() == expected.tolist()
        assert raw["tenure"].tolist() == table["tenure"].astype(float).tolist()

    def test_a_table_of_the_fields_has_no_raw_columns(self, read: Read, own: pd.DataFrame) -> None:
        assert read(own).raw is None

    def test_a_customer_takes_few_bytes(self, telco: Dataset) -> None:
        assert telco.groups is not None
        assert telco.categories is not None
        size = telco.X.nbytes + telco.y.nbytes + telco.groups.nbytes
        size += sum(values.codes.nbytes for values in telco.categories.values())
        assert size / telco.rows < 8 * (len(COLUMN_NAMES) + 2) + 20

    @pytest.mark.parametrize("rows", [slice(10), np.array([3, 1, 2]), np.arange(7043) % 2 == 0])
    def test_some_rows_are_taken_with_all_that_belongs_to_them(
        self, rows: Any, telco: Dataset
    ) -> None:
        assert telco.ids is not None
        assert telco.groups is not None
        assert telco.raw is not None
        taken = telco.take(rows)
        np.testing.assert_array_equal(taken.X, telco.X[rows])
        np.testing.assert_array_equal(taken.y, telco.y[rows])
        np.testing.assert_array_equal(taken.ids, telco.ids[rows])
        np.testing.assert_array_equal(taken.groups, telco.groups[rows])
        assert taken.raw is not None
        expected = telco.raw.iloc[np.arange(telco.rows)[rows]].reset_index(drop=True)
        pd.testing.assert_frame_equal(taken.raw, expected)
        assert taken.source == telco.source

    def test_what_was_recognised_is_said(self, telco: Dataset) -> None:
        assert telco.notices == (
            "Read as the raw Telco table: customers by 'customerID'.",
            (
                "The total charges of 11 customers in the first month were empty: they are that "
                "month's charges."
            ),
        )

    def test_the_order_of_the_fields_is_the_schemas(self, own: pd.DataFrame) -> None:
        assert set(FEATURE_NAMES) < set(own.columns)
