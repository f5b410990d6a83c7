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
import sys
from bisect import bisect_left, bisect_right
from operator import getitem, mul
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from churn_serving.errors import ScoringError
from churn_serving.features.columns import COLUMN_NAMES, FloatArray
from churn_serving.features.rows import Row, feature_matrix, verification_matrix

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = [
    "EstimatorScorer",
    "LinearScorer",
    "Scorer",
    "TreeScorer",
    "make_scorer",
]

logger = logging.getLogger(__name__)

_LINEAR_TOLERANCE: Final = 1e-12
_TREE_TOLERANCE: Final = 1e-9
_MAX_LEAVES: Final = 64
_MAX_MASK_BYTES: Final = 16 * 1024**2
_LEAF: Final = bytes(max(bits.bit_count() - 1, 0) for bits in range(256))
"""The number of a leaf, given the bits up to and with its own."""


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

        self._baseline = float(estimator._baseline_prediction.item())  # noqa: SLF001 - likewise
        self._leaf_values = np.zeros((len(trees), leaves))
        # Counted from the leaf before, because the leaf's number is counted from 1.
        self._leaf_before = np.arange(len(trees)) * leaves - 1
        tests: list[list[tuple[float, int, int]]] = [[] for _ in range(columns)]
        for number, tree in enumerate(trees):
            values, tree_tests = _numbered(tree)
            self._leaf_values[number, : len(values)] = values
            for column, threshold, ruled_out in tree_tests:
                tests[column].append((threshold, number, ruled_out))
        one = np.ones(len(trees), dtype)
        self._one = one
        self._one_integer = _as_integer(one)
        self._leaf_tuples = [tuple(values) for values in self._leaf_values.tolist()]
        self._columns = [
            _column(mean, scale, tests_of_column, len(trees), dtype)
            for mean, scale, tests_of_column in zip(
                scaler.mean_.tolist(), scaler.scale_.tolist(), tests, strict=True
            )
        ]

    def score_row(self, row: Row) -> float:
        """Return the churn probability of one customer.

        Without numpy: its calls are cheap in a loop, but each takes microseconds between two
        requests, when it is no longer in the processor's caches. The masks of all trees together
        are one long integer.
        """
        if self._one.itemsize > 1:
            return float(self.score(feature_matrix([row]))[0])
        alive = -1
        for x, (mean, scale, thresholds, _, _, integers) in zip(row, self._columns, strict=True):
            alive &= integers[bisect_left(thresholds, (x - mean) / scale)]
        # No tree's byte is zero, so no subtraction borrows from its neighbour's.
        bits = (alive ^ (alive - self._one_integer)).to_bytes(len(self._one), sys.byteorder)
        values = map(getitem, self._leaf_tuples, bits.translate(_LEAF))
        return _logistic(sum(values, self._baseline))

    def score(self, X: FloatArray) -> FloatArray:
        """Return the churn probabilities, shape ``(n,)``."""
        alive = np.full((len(X), len(self._one)), ~self._one.dtype.type(0))
        for x, (mean, scale, _, cuts, masks, _) in zip(X.T, self._columns, strict=True):
            alive &= masks[cuts.searchsorted((x - mean) / scale)]
        bits = alive ^ (alive - self._one)
        values = self._leaf_values.take(np.bitwise_count(bits) + self._leaf_before)
        probabilities: FloatArray = expit(values.sum(axis=1) + self._baseline)
        return probabilities


class _Column(NamedTuple):
    """What the trees ask of one column.

    Attributes:
        mean: Of the scaler.
        scale: Of the scaler.
        thresholds: The different thresholds on the column, ascending.
        cuts: The same, as an array.
        masks: Row ``k``: the leaves alive in each tree for a value above ``k`` thresholds.
        integers: The same, each row as one integer.
    """

    mean: float
    scale: float
    thresholds: list[float]
    cuts: FloatArray
    masks: NDArray[Any]
    integers: list[int]


def _column(
    mean: float,
    scale: float,
    tests: list[tuple[float, int, int]],
    trees: int,
    dtype: np.dtype[Any],
) -> _Column:
    """Tabulate the tests ``(threshold, tree, leaves ruled out)`` of a column."""
    thresholds = sorted({threshold for threshold, _, _ in tests})
    masks = np.full((len(thresholds) + 1, trees), ~dtype.type(0))
    for threshold, tree, ruled_out in tests:
        masks[bisect_right(thresholds, threshold) :, tree] &= ~dtype.type(ruled_out)
    return _Column(
        mean=mean,
        scale=scale,
        thresholds=thresholds,
        cuts=np.array(thresholds, dtype=np.float64),
        masks=masks,
        integers=[_as_integer(mask) for mask in masks],
    )


def _as_integer(masks: NDArray[Any]) -> int:
    return int.from_bytes(masks.tobytes(), sys.byteorder)


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
        # numpy's max keeps a NaN, Python's may lose it.
        difference = float(np.abs(np.stack([fast.score(X), rows]) - expected).max())
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
