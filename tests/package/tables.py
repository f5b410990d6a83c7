"""Training tables for the tests: of known customers, and made up."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Dataset, Labels


@dataclass(frozen=True)
class _Table:
    X: FloatArray
    y: Labels
    source: str
    sha256: str
    groups: Any = None
    ids: Any = None
    time: Any = None
    raw: pd.DataFrame | None = None

    @property
    def rows(self) -> int:
        return len(self.y)

    def take(self, rows: Any) -> _Table:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return _Table(
            **{
                name: value[rows] if isinstance(value, np.ndarray) else value
                for name, value in values.items()
                if name != "raw"
            },
            raw=None if self.raw is None else self.raw.iloc[rows],
        )


def table_of(dataset: Dataset, **known: Any) -> Dataset:
    """Return the table with its ``groups``, ``ids``, ``time`` or ``raw`` columns known."""
    if {field.name for field in fields(dataset)} >= known.keys():
        return replace(dataset, **known)
    values = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
    return _Table(**values | known)  # type: ignore[return-value] # until a Dataset knows them


def rows_of(dataset: Dataset, rows: Any) -> Dataset:
    """Return some rows, each as another customer of its own."""
    known = {"groups": np.arange(len(rows))}
    if hasattr(dataset, "take"):
        return table_of(dataset.take(rows), **known)
    return table_of(replace(dataset, X=dataset.X[rows], y=dataset.y[rows]), **known)
