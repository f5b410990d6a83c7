"""One fitted estimator of each kind, on the public Telco table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.kinds import (
    BOOSTERS,
    CALIBRATED,
    FOREST,
    GRADIENT_BOOSTING,
    MODELS,
    XGBOOST,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["SEED", "Fitted", "fit"]

SEED: Final = 0

_BOOSTED_TREES: Final = 100
_FOREST_TREES: Final = 500


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted model of one kind.

    Attributes:
        estimator: The classifier.
        scaler: It sees what this one makes of the rows; None: the rows as they are.
    """

    estimator: Any
    scaler: StandardScaler | None

    @property
    def whole(self) -> Any:  # noqa: ANN401 - of different libraries
        """The model whose ``predict_proba`` takes unscaled rows."""
        return self.estimator if self.scaler is None else make_pipeline(self.scaler, self.estimator)

    def write(self, folder: Path) -> Path:
        """Write a booster as its own library does, and return the file."""
        if hasattr(self.estimator, "booster_"):
            path = folder / "lightgbm.txt"
            self.estimator.booster_.save_model(path)
        else:
            path = folder / "xgboost.json"
            self.estimator.save_model(path)
        return path


def fit(kind: str, X: NDArray[Any], y: NDArray[Any]) -> Fitted:
    """Fit a model of this kind.

    Raises:
        ModuleNotFoundError: Its library is not installed.
    """
    if kind in BOOSTERS:
        return Fitted(_booster(kind).fit(X, y), None)
    scaler = StandardScaler().fit(X)
    return Fitted(_estimator(kind).fit(scaler.transform(X), y), scaler)


def _booster(kind: str) -> Any:  # noqa: ANN401 - of two libraries
    # Imported late: whoever measures none of them need not install them.
    if kind == XGBOOST:
        from xgboost import XGBClassifier  # noqa: PLC0415

        return XGBClassifier(
            n_estimators=_BOOSTED_TREES, max_depth=6, learning_rate=0.1, random_state=SEED, n_jobs=1
        )
    from lightgbm import LGBMClassifier  # noqa: PLC0415

    return LGBMClassifier(
        n_estimators=_BOOSTED_TREES, num_leaves=31, random_state=SEED, n_jobs=1, verbose=-1
    )


def _estimator(kind: str) -> Any:  # noqa: ANN401 - of different classes
    if kind in MODELS:
        # Imported late: another commit may have it elsewhere, and is never asked for these.
        from churn_serving.learning.candidates import CANDIDATES  # noqa: PLC0415

        return clone(next(one.estimator for one in CANDIDATES if one.name == kind))
    return {
        FOREST: RandomForestClassifier(_FOREST_TREES, random_state=SEED),
        GRADIENT_BOOSTING: GradientBoostingClassifier(random_state=SEED),
        CALIBRATED: CalibratedClassifierCV(
            HistGradientBoostingClassifier(random_state=SEED), method="sigmoid", ensemble=False
        ),
    }[kind]
