"""What each field does to a model's probabilities: partial dependence.

A field is set to one value for all of a sample of training customers, and the mean of the model's
probabilities is taken; then the next value. That says how the model answers, not what would happen
to a customer. Fields that go together (tenure and total charges) are moved one at a time all the
same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from churn_serving.features.columns import CATEGORIES, COLUMN_NAMES, FEATURE_NAMES
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from churn_serving.features.columns import FloatArray

__all__ = ["effects"]

SAMPLE_ROWS: Final = 500
_POINTS: Final = 17
_TAILS: Final = (0.02, 0.98)
"""Beyond, there are too few customers to say anything."""


def effects(
    predict: Callable[[FloatArray], FloatArray], X: FloatArray, *, seed: int
) -> dict[str, Any]:
    """Return the mean probability at each value of each field, as JSON knows it.

    Args:
        predict: Feature rows to churn probabilities.
        X: The rows that the model was trained on; some of them are drawn.
        seed: Decides which.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(X))[:SAMPLE_ROWS])
    sample = X[rows]
    fields = []
    for field in FEATURE_NAMES:
        values, tables = zip(*_moved(field, sample), strict=True)
        means = predict(np.concatenate(tables)).reshape(len(tables), len(sample)).mean(1)
        fields.append({"field": field, "values": list(values), "probability": means.tolist()})
    return {
        "scale": "probability",
        "rows": len(sample),
        "of": "training customers",
        "mean": float(predict(sample).mean()),
        "fields": fields,
    }


def _moved(field: str, sample: FloatArray) -> Iterator[tuple[float | bool | str, FloatArray]]:
    """Yield each value with the rows of all customers who are given it."""
    if field in CATEGORIES:
        columns = [COLUMN_NAMES.index(f"{field}={value}") for value in CATEGORIES[field]]
        for column, value in zip(columns, CATEGORIES[field], strict=True):
            rows = sample.copy()
            rows[:, columns] = 0
            rows[:, column] = 1
            yield value, rows
        return
    place = COLUMN_NAMES.index(field)
    is_flag = Customer.model_fields[field].annotation is bool
    for number in (0.0, 1.0) if is_flag else _grid(sample[:, place]):
        rows = sample.copy()
        rows[:, place] = number
        yield (bool(number) if is_flag else float(number)), rows


def _grid(values: FloatArray) -> FloatArray:
    """Return values that are there, with about as many customers between any two."""
    shares = np.linspace(*_TAILS, _POINTS)
    grid: FloatArray = np.unique(np.quantile(values, shares, method="nearest"))
    return grid
