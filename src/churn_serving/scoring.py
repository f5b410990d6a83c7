"""Scorers: feature rows in, churn probabilities out, for any registered estimator.

``make_scorer`` picks the fastest scorer that is exact for the estimator at hand:

- ``LinearScorer`` for logistic regression: scaler and coefficients folded into one product;
- ``TreeScorer`` for histogram gradient boosting with small trees: all trees walked at once;
- ``EstimatorScorer`` for everything else: the estimator's own ``predict_proba``.

The first two are compared with the estimator itself on a verification batch each time a model is
loaded, and given up (with a warning) if they differ.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import mul
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from churn_serving.errors import ScoringError
from churn_serving.features import (
    COLUMN_NAMES,
    CONTRACT_TYPES,
    FEATURE_NAMES,
    PAYMENT_METHODS,
    FloatArray,
    Row,
    customer_row,
    feature_matrix,
)
from churn_serving.schema import Customer

__all__ = [
    "EstimatorScorer",
    "LinearScorer",
    "Scorer",
    "TreeScorer",
    "make_scorer",
    "verification_matrix",
]

logger = logging.getLogger(__name__)

_LINEAR_TOLERANCE: Final = 1e-12
_TREE_TOLERANCE: Final = 1e-9
_MAX_LEAVES: Final = 64
_MAX_MASK_BYTES: Final = 16 * 1024**2


class Scorer(Protocol):
    """Maps unscaled feature rows to churn probabilities. Not safe to call from two threads."""

    def score_row(self, row: Row) -> float:
        """Return the churn probability of one customer."""
        ...

    def score(self, X: FloatArray) -> FloatArray:
        """Return the churn probabilities, shape ``(n,)``, of ``X``, shape ``(n, columns)``."""
        ...


class EstimatorScorer:
    """The scaler and the estimator exactly as scikit-learn runs them."""

    def __init__(self, estimator: Any, scaler: Any) -> None:  # noqa: ANN401 - any estimator
        self._estimator = estimator
        self._scaler = scaler

    def score_row(self, row: Row) -> float:
        """Return the churn probability of one customer."""
        return float(self.score(feature_matrix([row]))[0])

    def score(self, X: FloatArray) -> FloatArray:
        """Return the churn probabilities, shape ``(n,)``.

        Raises:
            ScoringError: The estimator returned anything but ``n`` pairs of numbers.
        """
        probabilities = np.asarray(
            self._estimator.predict_proba(self._scaler.transform(X)), dtype=np.float64
        )
        if probabilities.shape != (len(X), 2):
            raise ScoringError(
                f"The model returned an array of shape {probabilities.shape} "
                f"for {len(X)} customers."
            )
        return probabilities[:, 1]


class LinearScorer:
    """A standard scaler and a logistic regression folded into one weight vector.

    ``w . (x - mean) / scale + b  =  (w / scale) . x + (b - sum(w * mean / scale))``
    """

    def __init__(self, estimator: LogisticRegression, scaler: StandardScaler) -> None:
        self._weights: FloatArray = estimator.coef_[0] / scaler.scale_
        self._bias = float(estimator.intercept_[0] - self._weights @ scaler.mean_)
        self._row_weights = tuple(self._weights.tolist())

    def score_row(self, row: Row) -> float:
        """Return the churn probability of one customer.

        For a dozen numbers plain Python is faster than the way into numpy and back.
        """
        return _logistic(sum(map(mul, self._row_weights, row), self._bias))

    def score(self, X: FloatArray) -> FloatArray:
        """Return the churn probabilities, shape ``(n,)``: one matrix product."""
        probabilities: FloatArray = expit(X @ self._weights + self._bias)
        return probabilities


class TreeScorer:
    """Binary histogram gradient boosting, all trees walked at once by leaf masks.

    The algorithm is QuickScorer (Lucchese et al., "QuickScorer: a fast algorithm to rank documents
    with additive ensembles of regression trees", SIGIR 2015), laid out for numpy. Number the leaves
    of a tree from left to right and give each one bit. A node whose test ``x <= threshold`` is
    false rules out the leaves of its left subtree; the leftmost leaf that no node rules out is the
    one the tree would have reached. With the thresholds of a feature sorted, the nodes that are
    false for a value are a prefix, so the AND of their masks can be tabulated: one look-up per
    feature answers for every tree.

    Raises:
        ValueError: The ensemble has categorical splits, too many leaves, or too many nodes.
    """

    def __init__(self, estimator: HistGradientBoostingClassifier, scaler: StandardScaler) -> None:
        trees = [iteration[0].nodes for iteration in estimator._predictors]  # noqa: SLF001 - no public access; verified at load
        if any(tree["is_categorical"].any() for tree in trees):
            raise ValueError("categorical splits")
        leaves = max(int(tree["is_leaf"].sum()) for tree in trees)
        if leaves > _MAX_LEAVES:
            raise ValueError(f"more than {_MAX_LEAVES} leaves in a tree")
        dtype = np.min_scalar_type(2**leaves - 1)
        splits = sum(int((tree["is_leaf"] == 0).sum()) for tree in trees)
        columns = len(COLUMN_NAMES)
        if (splits + columns) * len(trees) * dtype.itemsize > _MAX_MASK_BYTES:
            raise ValueError("too many nodes to tabulate")

        self._mean: FloatArray = scaler.mean_
        self._scale: FloatArray = scaler.scale_
        self._row_scaling = tuple(zip(scaler.mean_.tolist(), scaler.scale_.tolist(), strict=True))
        self._baseline = float(estimator._baseline_prediction.item())  # noqa: SLF001 - likewise
        self._leaf_values = np.zeros((len(trees), leaves))
        nodes: list[list[tuple[float, int, int]]] = [[] for _ in range(columns)]
        for number, tree in enumerate(trees):
            values, tests = _numbered(tree)
            self._leaf_values[number, : len(values)] = values
            for column, threshold, ruled_out in tests:
                nodes[column].append((threshold, number, ruled_out))
        self._first_leaf = np.arange(len(trees)) * leaves

        # One table of masks; column c starts at row starts[c] with "no node is false".
        everything = 2 ** (dtype.itemsize * 8) - 1
        masks: list[NDArray[Any]] = []
        starts: list[int] = []
        self._thresholds: list[list[float]] = []
        for column in range(columns):
            starts.append(len(masks))
            mask = np.full(len(trees), everything, dtype=dtype)
            masks.append(mask)
            for _, number, ruled_out in sorted(nodes[column]):
                mask = mask.copy()
                mask[number] &= everything ^ ruled_out
                masks.append(mask)
            self._thresholds.append(sorted(threshold for threshold, _, _ in nodes[column]))
        self._masks = np.array(masks)
        self._starts = starts
        self._threshold_arrays = [np.array(thresholds) for thresholds in self._thresholds]

    def score_row(self, row: Row) -> float:
        """Return the churn probability of one customer."""
        index = [
            start + bisect_left(thresholds, (x - mean) / scale)
            for x, (mean, scale), thresholds, start in zip(
                row, self._row_scaling, self._thresholds, self._starts, strict=True
            )
        ]
        alive = np.bitwise_and.reduce(self._masks.take(index, axis=0), axis=0)
        return _logistic(self._baseline + float(self._reached(alive).sum()))

    def score(self, X: FloatArray) -> FloatArray:
        """Return the churn probabilities, shape ``(n,)``."""
        scaled = (X - self._mean) / self._scale
        index = np.empty(X.shape, dtype=np.intp)
        for column, (thresholds, start) in enumerate(
            zip(self._threshold_arrays, self._starts, strict=True)
        ):
            index[:, column] = thresholds.searchsorted(scaled[:, column]) + start
        alive = np.bitwise_and.reduce(self._masks.take(index, axis=0), axis=1)
        probabilities: FloatArray = expit(self._reached(alive).sum(axis=1) + self._baseline)
        return probabilities

    def _reached(self, alive: NDArray[Any]) -> FloatArray:
        """Return the value of the leftmost leaf alive in each tree."""
        leaf = np.bitwise_count(~alive & (alive - 1))
        return self._leaf_values.take(leaf + self._first_leaf)


def make_scorer(estimator: Any, scaler: Any) -> Scorer:  # noqa: ANN401 - any estimator
    """Return the fastest scorer that agrees with ``estimator.predict_proba``."""
    reference = EstimatorScorer(estimator, scaler)
    if type(scaler) is not StandardScaler:
        return reference
    if type(estimator) is LogisticRegression:
        make: Callable[..., Scorer] = LinearScorer
        tolerance = _LINEAR_TOLERANCE
    elif type(estimator) is HistGradientBoostingClassifier:
        make = TreeScorer
        tolerance = _TREE_TOLERANCE
    else:
        return reference
    X = verification_matrix()
    expected = reference.score(X)
    try:
        fast = make(estimator, scaler)
        rows = np.array([fast.score_row(tuple(row)) for row in X.tolist()])
        difference = float(max(np.abs(fast.score(X) - expected).max(), np.abs(rows - expected).max()))
    # Whatever a future scikit-learn changes inside, predict_proba still answers.
    except Exception as error:  # noqa: BLE001 - see above
        logger.warning("Scoring with predict_proba, which is slower: %s", error)
        return reference
    if not difference <= tolerance:
        logger.warning(
            "Scoring with predict_proba, which is slower: %s differs from it by %.1e",
            make.__name__,
            difference,
        )
        return reference
    return fast


def verification_matrix(rows: int = 512, seed: int = 0) -> FloatArray:
    """Return the feature matrix of made-up customers that cover the whole schema."""
    random = np.random.default_rng(seed)
    monthly = random.uniform(0, 500, rows)
    columns = [
        random.integers(0, 121, rows),
        monthly,
        monthly + random.exponential(2000, rows),
        random.integers(1, 11, rows),
        random.integers(0, 2, rows).astype(bool),
        random.integers(0, 2, rows).astype(bool),
        random.choice(CONTRACT_TYPES, rows),
        random.choice(PAYMENT_METHODS, rows),
    ]
    return feature_matrix(
        customer_row(Customer(**dict(zip(FEATURE_NAMES, values, strict=True))))
        for values in zip(*(column.tolist() for column in columns), strict=True)
    )


def _numbered(nodes: NDArray[Any]) -> tuple[list[float], list[tuple[int, float, int]]]:
    """Walk one tree from left to right.

    Returns:
        The leaf values, and for each inner node its column, its threshold and the bits of the
        leaves that it rules out when ``x > threshold``.
    """
    values: list[float] = []
    tests: list[tuple[int, float, int]] = []

    def walk(index: int) -> None:
        node = nodes[index]
        if node["is_leaf"]:
            values.append(float(node["value"]))
            return
        first = len(values)
        walk(int(node["left"]))
        ruled_out = 2 ** len(values) - 2**first
        tests.append((int(node["feature_idx"]), float(node["num_threshold"]), ruled_out))
        walk(int(node["right"]))

    walk(0)
    return values, tests


def _logistic(z: float) -> float:
    """Return ``1 / (1 + exp(-z))`` without overflow."""
    if z >= 0:
        return 1 / (1 + math.exp(-z))
    power = math.exp(z)
    return power / (1 + power)
