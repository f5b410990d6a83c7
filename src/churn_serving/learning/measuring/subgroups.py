"""How the model does for kinds of customers, and what the fields that it lacks would add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.learning.measuring.calibration import wilson
from churn_serving.learning.measuring.evaluation import measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Labels

__all__ = ["Subgroup", "blind_spots", "subgroups"]

MIN_LEFT: Final = 5
"""A subgroup of fewer leavers is not said to be overlooked."""

_FLAGS: Final = {"has_internet": ("no internet", "internet")}
_CATEGORY: Final = "contract_type"
_SENIOR: Final = "SeniorCitizen"


@dataclass(frozen=True, slots=True)
class Subgroup:
    """The figures of customers of one kind among those held out.

    Attributes:
        by: What tells the kinds apart.
        name: This kind.
        rows: How many there are.
        left: How many of them left.
        predicted: The mean of their probabilities.
        flagged: The share of whom churn is predicted.
        found: How many of those who left are among them.
        auc: Within the kind; None if all or none of them left.
    """

    by: str
    name: str
    rows: int
    left: int
    predicted: float
    flagged: float
    found: int
    auc: float | None

    def as_json(self) -> dict[str, Any]:
        """Return what is kept with the model; what cannot be told is not there."""
        kept: dict[str, Any] = {
            "name": self.name,
            "rows": self.rows,
            "left": self.left,
            "observed": self.left / self.rows,
            "predicted": self.predicted,
            "flagged": self.flagged,
            "found": self.found,
        }
        if self.left:
            recall = wilson(self.found / self.left, self.left)
            kept["recall"] = {"value": recall.value, "low": recall.low, "high": recall.high}
        if self.auc is not None:
            kept["auc"] = self.auc
        return kept


def subgroups(
    X: FloatArray,
    y: Labels,
    probabilities: FloatArray,
    threshold: float,
    raw: pd.DataFrame | None = None,
) -> list[Subgroup]:
    """Measure by contract, by internet and, if the raw table says who is a senior, by that."""
    flagged = probabilities >= threshold
    found = []
    for by, name, rows in _kinds(X, raw):
        if not rows.any():
            continue
        labels = y[rows]
        both = 0 < labels.sum() < len(labels)
        found.append(
            Subgroup(
                by=by,
                name=name,
                rows=len(labels),
                left=int(labels.sum()),
                predicted=float(probabilities[rows].mean()),
                flagged=float(flagged[rows].mean()),
                found=int(labels[flagged[rows]].sum()),
                auc=measure(labels, probabilities[rows])["auc"] if both else None,
            )
        )
    return found


def blind_spots(found: list[Subgroup], threshold: float) -> list[str]:
    """Return a sentence for each kind of whose leavers none is predicted."""
    return [
        f"{each.name}: none of the {each.left} customers who left is found at the threshold "
        f"{threshold:.3f} ({each.left / each.rows:.1%} of the {each.rows:,} left)."
        for each in found
        if each.left >= MIN_LEFT and not each.found
    ]


def _kinds(X: FloatArray, raw: pd.DataFrame | None) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    for column, values in zip(COLUMN_NAMES, X.T, strict=True):
        field, _, category = column.partition("=")
        if field == _CATEGORY:
            yield field, category, values == 1
        for flag, name in enumerate(_FLAGS.get(field, ())):
            yield field, name, values == flag
    if raw is not None and _SENIOR in raw.columns:
        senior = raw[_SENIOR].astype(str).str.strip().str.lower().isin(["1", "1.0", "yes", "true"])
        yield "senior", "senior", senior.to_numpy()
        yield "senior", "younger", ~senior.to_numpy()
