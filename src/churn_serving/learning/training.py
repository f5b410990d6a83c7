"""Train the churn model: compare candidates, pick one honestly, measure it on unseen customers.

A fifth of the customers is held out. On the rest, every candidate is cross-validated on the same
folds; the simplest candidate within one standard error of the best log-loss is chosen, its
decision threshold tuned on out-of-fold probabilities and the model fitted. The held-out customers
are scored once, by the very model that is registered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    brier_score_loss,
    f1_score,
    log_loss,
    precision_recall_curve,
    roc_auc_score,
)
from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from churn_serving.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Dataset, Labels

__all__ = [
    "CANDIDATES",
    "Candidate",
    "CrossValidation",
    "Estimate",
    "TrainingResult",
    "measure",
    "train",
]

FOLDS: Final = 5
REPEATS: Final = 3
TEST_SHARE: Final = 0.2
BOOTSTRAP_SAMPLES: Final = 1000
METRICS: Final = ("auc", "log_loss", "brier")
MIN_ROWS_PER_CLASS: Final = 10
"""So that, with a fifth held out, every fold has both classes."""

_Z_95: Final = 1.959963984540054

Progress: TypeAlias = "Callable[[str, int, int], None]"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind of model that may be trained.

    Attributes:
        name: What ``--model`` calls it.
        estimator: The unfitted scikit-learn classifier; it sees scaled features.
    """

    name: str
    estimator: BaseEstimator


CANDIDATES: Final = (
    # From the simplest to the most complex: the order decides ties.
    Candidate("logistic", LogisticRegression(max_iter=1000)),
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
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured figure with its 95% confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """One candidate's figures over all folds.

    Attributes:
        candidate: The candidate's name.
        metrics: Mean and 95% interval of each of ``METRICS``.
        standard_error: Of the log-loss, corrected for the overlap of the training folds.
        probabilities: Out-of-fold churn probabilities of the first repeat, shape ``(n,)``.
    """

    candidate: str
    metrics: dict[str, Estimate]
    standard_error: float
    probabilities: FloatArray


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A fitted model and everything measured about it.

    Attributes:
        candidate: The name of the chosen candidate.
        estimator: The fitted Pipeline: a scaler and a classifier.
        scaler: The first of them.
        threshold: The decision threshold that maximises F1 out of fold.
        cross_validation: One entry per compared candidate.
        held_out: AUC, log-loss, Brier and F1 on customers the model has never seen.
        train_rows: Number of customers it was fitted on.
        test_rows: Number of customers held out.
    """

    candidate: str
    estimator: Pipeline
    scaler: StandardScaler
    threshold: float
    cross_validation: tuple[CrossValidation, ...]
    held_out: dict[str, Estimate]
    train_rows: int
    test_rows: int


def train(
    dataset: Dataset, *, model: str = "auto", seed: int = 42, progress: Progress | None = None
) -> TrainingResult:
    """Train and evaluate.

    Args:
        dataset: The validated training table.
        model: The name of a candidate, or ``auto`` to compare all.
        seed: Decides the held-out customers, the folds and the estimator's own randomness.
        progress: Called with a description, the steps done and the steps in all.

    The arithmetic runs on one thread, so the same data and seed give the same model, bit for bit,
    whatever the number of cores.

    Raises:
        DataError: The table has too few customers of either class.
    """
    left = int(dataset.y.sum())
    if min(left, dataset.rows - left) < MIN_ROWS_PER_CLASS:
        raise DataError(
            f"The table has {left} customers who left and {dataset.rows - left} customers who "
            f"stayed: training needs at least {MIN_ROWS_PER_CLASS} of each."
        )
    candidates = [c for c in CANDIDATES if model in ("auto", c.name)]
    steps = len(candidates) * FOLDS * REPEATS + 2
    done = 0

    def step(description: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(description, done, steps)

    with threadpool_limits(limits=1):
        X_train, X_test, y_train, y_test = train_test_split(
            dataset.X, dataset.y, test_size=TEST_SHARE, stratify=dataset.y, random_state=seed
        )
        validations = tuple(
            _cross_validate(candidate, X_train, y_train, seed, step) for candidate in candidates
        )
        chosen = _simplest_within_one_standard_error(validations)
        candidate = next(c for c in candidates if c.name == chosen.candidate)
        scaler, estimator = _fit(candidate, X_train, y_train, seed)
        step(f"fitting {candidate.name}")
        threshold = _best_f1_threshold(y_train, chosen.probabilities)
        probabilities = _churn_probabilities(scaler, estimator, X_test)
        held_out = _bootstrap(y_test, probabilities, threshold, seed)
        step("measuring on held-out customers")
    return TrainingResult(
        candidate=candidate.name,
        estimator=Pipeline([("scaler", scaler), ("classifier", estimator)]),
        scaler=scaler,
        threshold=threshold,
        cross_validation=validations,
        held_out=held_out,
        train_rows=len(y_train),
        test_rows=len(y_test),
    )


def measure(
    y: Labels, probabilities: FloatArray, threshold: float | None = None, *, seed: int = 42
) -> tuple[float, dict[str, Estimate]]:
    """Measure a model that was trained elsewhere.

    Args:
        y: Who left.
        probabilities: What the model says of each, shape ``(n,)``.
        threshold: Probabilities from here on are predicted as churn. None: the one with the best
            F1 on these very customers, which makes that F1 look a little better than it is.
        seed: Decides which customers are resampled.

    Returns:
        The threshold, and AUC, log-loss, Brier and F1.
    """
    if threshold is None:
        threshold = _best_f1_threshold(y, probabilities)
    return threshold, _bootstrap(y, probabilities, threshold, seed)


def _fit(
    candidate: Candidate, X: FloatArray, y: Labels, seed: int
) -> tuple[StandardScaler, BaseEstimator]:
    scaler = StandardScaler().fit(X)
    estimator = clone(candidate.estimator).set_params(random_state=seed)
    return scaler, estimator.fit(scaler.transform(X), y)


def _churn_probabilities(
    scaler: StandardScaler, estimator: BaseEstimator, X: FloatArray
) -> FloatArray:
    probabilities: FloatArray = estimator.predict_proba(scaler.transform(X))[:, 1]
    return probabilities


def _measure(y: Labels, probabilities: FloatArray) -> dict[str, float]:
    return {
        "auc": float(roc_auc_score(y, probabilities)),
        "log_loss": float(log_loss(y, probabilities)),
        "brier": float(brier_score_loss(y, probabilities)),
    }


def _cross_validate(
    candidate: Candidate, X: FloatArray, y: Labels, seed: int, step: Callable[[str], None]
) -> CrossValidation:
    folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=seed)
    scores: dict[str, list[float]] = {metric: [] for metric in METRICS}
    out_of_fold = np.full(len(y), np.nan)
    for number, (train_index, test_index) in enumerate(folds.split(X, y)):
        scaler, estimator = _fit(candidate, X[train_index], y[train_index], seed)
        probabilities = _churn_probabilities(scaler, estimator, X[test_index])
        for metric, value in _measure(y[test_index], probabilities).items():
            scores[metric].append(value)
        if number < FOLDS:
            out_of_fold[test_index] = probabilities
        step(f"cross-validating {candidate.name}")
    errors = {metric: _corrected_standard_error(values) for metric, values in scores.items()}
    return CrossValidation(
        candidate=candidate.name,
        metrics={
            metric: Estimate(
                value=float(np.mean(values)),
                low=float(np.mean(values) - _Z_95 * errors[metric]),
                high=float(np.mean(values) + _Z_95 * errors[metric]),
            )
            for metric, values in scores.items()
        },
        standard_error=errors["log_loss"],
        probabilities=out_of_fold,
    )


def _corrected_standard_error(scores: list[float]) -> float:
    """Return the standard error of a mean over repeated folds.

    The training folds overlap, so the scores are not independent; the correction is that of
    Nadeau and Bengio, "Inference for the Generalization Error" (2003), section 3.
    """
    test_over_train = 1 / (FOLDS - 1)
    return float(np.sqrt((1 / len(scores) + test_over_train) * np.var(scores, ddof=1)))


def _simplest_within_one_standard_error(
    validations: tuple[CrossValidation, ...],
) -> CrossValidation:
    """Apply the one-standard-error rule (Hastie et al., Elements of Statistical Learning, 7.10)."""
    best = min(validations, key=lambda v: v.metrics["log_loss"].value)
    limit = best.metrics["log_loss"].value + best.standard_error
    return next(v for v in validations if v.metrics["log_loss"].value <= limit)


def _best_f1_threshold(y: Labels, probabilities: FloatArray) -> float:
    precision, recall, thresholds = precision_recall_curve(y, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return float(thresholds[np.argmax(f1[:-1])])


def _bootstrap(
    y: Labels, probabilities: FloatArray, threshold: float, seed: int
) -> dict[str, Estimate]:
    """Measure with 95% percentile intervals over resampled customers."""

    def measure(index: Any) -> dict[str, float]:  # noqa: ANN401 - a slice or an array of indices
        measured = _measure(y[index], probabilities[index])
        measured["f1"] = float(f1_score(y[index], probabilities[index] >= threshold))
        return measured

    random = np.random.default_rng(seed)
    # Stratified, so that no resample lacks a class.
    classes = [np.flatnonzero(y == label) for label in (0, 1)]
    samples = [
        measure(np.concatenate([random.choice(rows, len(rows)) for rows in classes]))
        for _ in range(BOOTSTRAP_SAMPLES)
    ]
    return {
        metric: Estimate(
            value,
            *(float(q) for q in np.percentile([sample[metric] for sample in samples], [2.5, 97.5])),
        )
        for metric, value in measure(slice(None)).items()
    }
