"""Arrow columns of any type become the fields that serving would have taken, row by row."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from churn_serving.bulk.columns import check_types, read_fields, read_numbers
from churn_serving.errors import DataError
from churn_serving.features.columns import (
    CATEGORIES,
    FEATURE_NAMES,
    Refused,
    first_reasons,
    matrix_of,
    refused_rows,
)
from churn_serving.features.layouts import RAW, plan_for
from churn_serving.features.rows import customer_row
from churn_serving.fields import FIELDS
from churn_serving.schema import EXAMPLE, Customer, CustomerV2

if TYPE_CHECKING:
    import pandas as pd

    from churn_serving.learning.dataset import Dataset

# The same tables each time, however slow the machine is.
steady = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow],
)

NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
NO_VALUE: Final = {"", "nan", "na", "n/a", "null", "none", "\\n"}
FLAGS: Final = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "y", "t"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "n", "f"), False),
}

INTEGERS: Final = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16()]
LARGE_INTEGERS: Final = [pa.int64(), pa.uint64()]
FLOATS: Final = [pa.float32(), pa.float64()]
DECIMALS: Final = [pa.decimal128(12, 2), pa.decimal128(30, 4), pa.decimal256(40, 2)]
TEXTS: Final = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
]

odd_numbers = "|1,234.5|12,5|abc|  |NA|null|\\N|0x10|1_0|$5|1e400|nan|NaN|inf|-Infinity"
number_texts = st.sampled_from(
    ["1", " 24 ", "70.70", "-1", "1e2", "+5", ".5", "5.", "120", "121", *odd_numbers.split("|")]
)
flag_texts = st.sampled_from([*FLAGS, "Yes", " TRUE ", "No", "", "NA", "maybe", "2"])


def cells_of(kind: Any, field: str) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one a kind
    """What a cell of this Arrow type may hold, for a field."""
    if pa.types.is_null(kind):
        return st.none()
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_integer(kind):
        signed = pa.types.is_signed_integer(kind)
        top = 2 ** (kind.bit_width - signed)
        edges = st.sampled_from([0, 1, 2, 24, 120, 121, top - 1, *([-1] if signed else [])])
        return edges | st.integers(1, 10)
    if pa.types.is_floating(kind):
        width = kind.bit_width
        odd = st.sampled_from([0.0, 1.0, 2.0, 120.5, -0.0, -1.0, np.nan, np.inf, -np.inf, 1e6])
        return odd | st.floats(0, 500, width=width)
    if pa.types.is_decimal(kind):
        places = st.integers(-10_000, 60_000_000)
        return places.map(lambda cents: Decimal(cents) / 100)
    if field in CATEGORIES:
        spelled = [*CATEGORIES[field], "", "other", "Month-to-month", "Mailed check"]
        return st.sampled_from(spelled)
    return flag_texts if FIELDS[field].kind == "flag" else number_texts | st.just("29.85")


def kinds_of(field: str) -> list[Any]:
    """Arrow types in which a column of this field may come."""
    if field in CATEGORIES:
        return [*TEXTS, pa.null(), pa.int32()]
    return [*INTEGERS, *LARGE_INTEGERS, *FLOATS, *DECIMALS, *TEXTS, pa.bool_(), pa.null()]


def meant(cell: Any, field: str) -> Any:  # noqa: PLR0911 - one a kind
    """Return what a cell means to serving: None if there is no value, text if it is none."""
    if cell is None or cell != cell:  # noqa: PLR0124 - NaN
        return None
    kind = FIELDS[field].kind
    if kind == "flag":
        if not isinstance(cell, (bool, str)) and cell == int(cell) if _finite(cell) else False:
            cell = int(cell)
        word = str(cell).strip().lower()
        return FLAGS.get(word, word) if word else None
    if kind == "category":
        text = str(cell).strip()
        raw = {"Month-to-month": "month-to-month", "Mailed check": "mailed"}
        return raw.get(text, text) or None
    if isinstance(cell, bool):
        return "no number"
    if isinstance(cell, str):
        text = cell.strip()
        if text.lower() in NO_VALUE:
            return None
        if not NUMBER.fullmatch(text):
            return "no number"
        cell = float(text)
    number = float(cell)
    return int(number) if kind == "whole" and number.is_integer() else number


def _finite(cell: Any) -> bool:
    return isinstance(cell, str) or bool(np.isfinite(float(cell)))


def taken(row: dict[str, Any]) -> Customer | None:
    """Return the customer that serving would take; None if it would refuse."""
    fields = {name: meant(cell, name) for name, cell in row.items()}
    known = {name: value for name, value in fields.items() if value is not None}
    try:
        return CustomerV2.model_validate(known)
    except ValidationError:
        return None


@st.composite
def tables(draw: st.DrawFn) -> Any:
    """Batches of a few rows: some columns as they should be, some of any type and content."""
    rows = draw(st.integers(0, 6))
    columns = {}
    for field in FEATURE_NAMES:
        kind = draw(st.sampled_from(kinds_of(field)))
        if draw(st.integers(0, 3)):  # most columns are right, or no row ever would be
            right = EXAMPLE[field]
            natural = pa.scalar(right).type
            fitting = [natural, pa.string()] if isinstance(right, str) else [natural]
            columns[field] = pa.array([right] * rows, draw(st.sampled_from(fitting)))
            continue
        cells = draw(st.lists(st.none() | cells_of(kind, field), min_size=rows, max_size=rows))
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        columns[field] = pa.array(cells, plain).cast(kind)
    batch = pa.record_batch(columns)
    start = draw(st.integers(0, max(rows - 1, 0)))
    return batch.slice(start)


def judged(batch: Any) -> tuple[list[Refused], Any, Any]:
    """What is wrong with a batch, the first of it for each row, and the matrix of the others."""
    fields, unread = read_fields(batch, plan_for(batch.schema.names, labelled=False))
    refused = list(refused_rows(fields, unread))
    reasons = first_reasons(refused, batch.num_rows)
    good = {name: values[reasons < 0] for name, values in fields.items()}
    return refused, reasons, matrix_of(good, order="F")


@steady
@given(batch=tables())
def test_a_row_is_taken_as_serving_takes_the_customer_or_refused_like_it(batch: Any) -> None:
    _, reasons, X = judged(batch)
    rows = [{name: text_of(cell) for name, cell in row.items()} for row in batch.to_pylist()]
    customers = [taken(row) for row in rows]
    assert (reasons < 0).tolist() == [customer is not None for customer in customers]
    expected = [customer_row(customer) for customer in customers if customer is not None]
    assert X.tolist() == [list(row) for row in expected]


def text_of(cell: Any) -> Any:
    return cell.decode() if isinstance(cell, bytes) else cell


@steady
@given(batch=tables())
def test_the_verdict_on_a_row_does_not_depend_on_its_batch(batch: Any) -> None:
    def told(batch: Any) -> list[tuple[str, str] | None]:
        refused, reasons, _ = judged(batch)
        return [(refused[r].field, refused[r].expected) if r >= 0 else None for r in reasons]

    alone = [told(batch.slice(row, 1))[0] for row in range(batch.num_rows)]
    assert told(batch) == alone


def test_the_raw_table_is_read_as_training_reads_it(raw: pd.DataFrame, small: Dataset) -> None:
    raw = raw.drop(columns="Churn")
    _, reasons, X = judged(pa.RecordBatch.from_pandas(raw, preserve_index=False))
    assert (reasons < 0).all()
    np.testing.assert_array_equal(X, small.X)


def test_a_service_that_is_no_answer_is_told_by_its_own_name(raw: pd.DataFrame) -> None:
    raw.loc[2, "OnlineBackup"] = "perhaps"
    raw.loc[4, "PhoneService"] = ""
    refused, reasons, _ = judged(pa.RecordBatch.from_pandas(raw, preserve_index=False))
    told = {row: refused[place] for row, place in enumerate(reasons) if place >= 0}
    assert {row: (one.field, one.expected) for row, one in told.items()} == {
        2: ("OnlineBackup", "one of 'Yes', 'No', 'No internet service'"),
        4: ("PhoneService", "a value"),
    }


@pytest.mark.parametrize(
    "array",
    [
        pa.array(np.array([1.5, 24, np.nan], np.float16)),
        pa.array([1.5, 24, None], pa.float32()),
        pa.array(["1.5", " 24", None]).dictionary_encode(),
        pa.array([Decimal("1.5"), Decimal(24), None], pa.decimal128(5, 1)),
        pa.array([Decimal("1.5"), Decimal(24), None], pa.decimal64(5, 1)),
        pa.array([b"1.5", b"24", None]),
        pa.RunEndEncodedArray.from_arrays([1, 2, 3], pa.array([1.5, 24, None])),
    ],
    ids=lambda array: str(array.type),
)
def test_numbers_are_read_whatever_they_are_kept_in(array: Any) -> None:
    for part in (array, array.slice(1), array.slice(1, 1)):
        values, missing, bad = read_numbers(part)
        expected = [1.5, 24, np.nan][len(array) - len(part) :][: len(part)]
        if len(part) == 1:
            expected = [24]
        np.testing.assert_array_equal(values, expected)
        assert (np.isnan(expected).tolist() if missing is None else missing.tolist()) == np.isnan(
            expected
        ).tolist()
        assert bad is None


def test_a_decimal_is_the_nearest_number_to_its_digits() -> None:
    cents = np.random.default_rng(0).integers(0, 1_000_000_00, 10_000)
    texts = [f"{each // 100}.{each % 100:02d}" for each in cents.tolist()]
    for kind in (pa.decimal128(12, 2), pa.decimal128(30, 2)):
        values, _, _ = read_numbers(pa.array([Decimal(text) for text in texts], kind))
        assert values.tolist() == [float(text) for text in texts]


def test_a_column_of_another_type_is_refused() -> None:
    table = pa.table({name: [EXAMPLE[name]] for name in FEATURE_NAMES})
    place = FEATURE_NAMES.index("num_products")
    times = table.set_column(place, "num_products", pa.array([0], pa.date32()))
    plan = plan_for(times.schema.names, labelled=False)
    with pytest.raises(DataError, match="Column 'num_products': expected numbers, found the type"):
        check_types(times.schema, plan)


def test_the_raw_layout_names_every_column_it_needs() -> None:
    with pytest.raises(DataError, match=r"No column is known.*the raw Telco table") as error:
        plan_for(["a", "b"], labelled=False)
    assert "'churn'" not in str(error.value).lower()
    assert set(RAW.columns) > {"tenure", "Contract"}
