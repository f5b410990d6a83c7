"""The kinds of model that may be trained, from the simplest to the most complex."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from churn_serving.learning.splits import folds, number_customers

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Labels

__all__ = [
    "CANDIDATES",
    "CLASSIFIER",
    "KINDS",
    "SCALER",
    "Candidate",
    "calibrated",
    "churn_probabilities",
    "fit",
]

SCALER: Final = "scaler"
CLASSIFIER: Final = "classifier"
CALIBRATION_FOLDS: Final = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind of model that may be trained.

    Attributes:
        name: What ``--model`` calls it.
        estimator: The unfitted scikit-learn classifier; it sees scaled features.
        calibrated: Its probabilities are corrected by a sigmoid fitted on customers that it has
            not seen.
    """

    name: str
    estimator: BaseEstimator
    calibrated: bool = False


KINDS: Final = (
    # From the simplest to the most complex: the order decides ties.
    Candidate("logistic", LogisticRegression(max_iter=1000)),
    Candidate("decision-tree", DecisionTreeClassifier(max_leaf_nodes=16, min_samples_leaf=40)),
    Candidate(
        "hist-gradient-boosting",
        HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=120,
            max_leaf_nodes=8,
            min_samples_leaf=40,
            l2_regularization=1.0,
            early_stopping=False,
        ),
    ),
    Candidate(
        "gradient-boosting",
        GradientBoostingClassifier(
            learning_rate=0.05, n_estimators=120, max_depth=3, min_samples_leaf=40, subsample=0.5
        ),
    ),
    Candidate("random-forest", RandomForestClassifier(n_estimators=200, min_samples_leaf=10)),
    Candidate("extra-trees", ExtraTreesClassifier(n_estimators=200, min_samples_leaf=10)),
)
"""What ``--model`` offers."""

CANDIDATES: Final = tuple(k for k in KINDS if k.name in {"logistic", "hist-gradient-boosting"})
"""What ``--model auto`` compares: few, so that a first ``make serve`` is quick."""


def calibrated(candidate: Candidate) -> Candidate:
    """Return the candidate with its probabilities corrected."""
    return replace(candidate, calibrated=True)


def fit(
    candidate: Candidate, X: FloatArray, y: Labels, seed: int, groups: NDArray[Any] | None = None
) -> Pipeline:
    """Fit scaler and classifier as one pipeline.

    Args:
        candidate: What to fit; it stays unfitted.
        X: The feature matrix.
        y: The labels.
        seed: Of whatever is random in the estimator.
        groups: The customer of each row; None if each is another one.
    """
    classifier = clone(candidate.estimator)
    if "random_state" in classifier.get_params():
        classifier.set_params(random_state=seed)
    if candidate.calibrated:
        customers = number_customers(np.arange(len(y)) if groups is None else groups, y)
        inner = folds(customers, parts=CALIBRATION_FOLDS, repeats=1, seed=seed)
        # Not an ensemble: five averaged models would have no slope that one could explain.
        classifier = CalibratedClassifierCV(classifier, method="sigmoid", ensemble=False, cv=inner)
    pipeline = Pipeline([(SCALER, StandardScaler()), (CLASSIFIER, classifier)]).fit(X, y)
    if candidate.calibrated:
        # The rows of the folds need not be pickled with the model.
        classifier.set_params(cv=CALIBRATION_FOLDS)
    return pipeline


def churn_probabilities(estimator: BaseEstimator, X: FloatArray) -> FloatArray:
    """Return the probability of churn of each row, shape ``(n,)``."""
    probabilities: FloatArray = estimator.predict_proba(X)[:, 1]
    return probabilities
