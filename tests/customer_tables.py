"""Arrow tables of customers drawn from the public one, for the tests of bulk scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from churn_serving.features.columns import CATEGORIES, COLUMN_NAMES
from churn_serving.fields import FIELDS

if TYPE_CHECKING:
    from churn_serving.learning.dataset import Dataset

KINDS = {"whole": np.int64, "number": np.float64, "flag": np.bool_}


def customers(telco: Dataset, rows: int, seed: int = 0) -> Any:
    """Return a table of so many customers, each with an id of its own."""
    random = np.random.default_rng(seed)
    X = telco.X[random.integers(0, telco.rows, rows)]
    columns = dict(zip(COLUMN_NAMES, X.T, strict=True))
    table: dict[str, Any] = {"customer_id": [f"{number:06d}-{seed}" for number in range(rows)]}
    for name, field in FIELDS.items():
        if name in CATEGORIES:
            flags = [columns[f"{name}={value}"] for value in field.values]
            table[name] = np.array(field.values, object)[np.argmax(flags, axis=0)]
        else:
            table[name] = columns[name].astype(KINDS[field.kind])
    return pa.table({name: pa.array(values) for name, values in table.items()})
