"""What the service's eight fields cost against all columns of the raw table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from churn_serving.learning.candidates import KINDS, churn_probabilities, fit
from churn_serving.learning.measuring.evaluation import measure
from churn_serving.learning.selection import mean_over_folds

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Labels
    from churn_serving.learning.splits import Indices

__all__ = ["cost_of_fields", "raw_matrix"]

_NOT_FEATURES: Final = {"churn", "customerid"}
_MAX_VALUES: Final = 20
"""A column of text with more values than these is no category."""


def raw_matrix(raw: pd.DataFrame) -> tuple[FloatArray, list[str]]:
    """Return all columns of a raw table as numbers, categories one-hot, and the columns' names."""
    parts: list[FloatArray] = []
    names: list[str] = []
    for name in raw.columns:
        if str(name).strip().lower() in _NOT_FEATURES:
            continue
        text = raw[name].astype(str).str.strip()
        numbers = pd.to_numeric(text.mask(text == "", "0"), errors="coerce")
        if numbers.notna().all():
            parts.append(numbers.to_numpy(dtype=float)[:, None])
        elif text.nunique() <= _MAX_VALUES:
            parts.append(pd.get_dummies(text).to_numpy(dtype=float))
        else:
            continue
        names.append(str(name))
    return np.concatenate(parts, axis=1), names


def cost_of_fields(
    raw: pd.DataFrame,
    X: FloatArray,
    y: Labels,
    folds: list[tuple[Indices, Indices]],
    *,
    seed: int,
) -> dict[str, Any]:
    """Compare logistic regression on the fields with the same on all columns, fold by fold.

    Args:
        raw: The raw columns of the training rows; what was decided afterwards must not be in it.
        X: The feature matrix of the same rows.
        y: Their labels.
        folds: Training and test rows of each fold, of repeated five-fold cross-validation.
        seed: Of the estimator.
    """
    everything, names = raw_matrix(raw)
    aucs = np.array(
        [
            [
                measure(
                    y[test],
                    churn_probabilities(fit(KINDS[0], matrix[train], y[train], seed), matrix[test]),
                )["auc"]
                for matrix in (X, everything)
            ]
            for train, test in folds
        ]
    )
    difference = mean_over_folds(aucs[:, 0] - aucs[:, 1])
    return {
        "metric": "auc",
        "columns": len(names),
        "fields": float(aucs[:, 0].mean()),
        "all_columns": float(aucs[:, 1].mean()),
        "difference": {
            "value": difference.value,
            "low": difference.low,
            "high": difference.high,
        },
    }
