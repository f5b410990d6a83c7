"""Scorers: feature rows in, churn probabilities out, with numpy and the standard library.

``make_scorer`` turns the portable form of a model into what scores: a ``LinearScorer``, a
``TreeScorer``, or the mean of several. ``verify`` holds it against the golden rows: what the
estimator itself said when the model was registered.
"""

from __future__ import annotations

import math
from operator import mul
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from churn_serving.errors import ScoringError
from churn_serving.model.trees import Forest, SetColumns, tree_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row
    from churn_serving.model.portable import Link, Members, Pickled
    from churn_serving.model.trees import TreeSum

__all__ = [
    "EstimatorScorer",
    "LinearScorer",
    "MeanScorer",
    "Scorer",
    "TreeScorer",
    "logistic",
    "make_scorer",
    "read_trees",
    "verify",
]

_LINEAR_TOLERANCE: Final = 1e-12
_TOLERANCE: Final = 1e-9
_SINGLE_TOLERANCE: Final = 5e-7


class Scorer(Protocol):
    """Maps unscaled feature rows to churn probabilities. Not safe to call from two threads."""

    def score_row(self, row: Row) -> float:
        """Return the churn probability of one customer, whose numbers are all there."""
        ...

    def score(self, X: FloatArray) -> FloatArray:
        """Return the churn probabilities, shape ``(n,)``, of ``X``, shape ``(n, columns)``."""
        ...


class LinearScorer:
    """A link of a weighted sum: logistic regression, with its scaler in the weights."""

    def __init__(self, weights: FloatArray, bias: float, link: _Link) -> None:
        self._weights = weights
        self._bias = bias
        self._link = link
        self._link_one = link.one
        self._row_weights = tuple(weights.tolist())

    def score_row(self, row: Row) -> float:
        """Return the churn probability of one customer.

        For a dozen numbers plain Python is faster than the way into numpy and back.
        """
        return self._link_one(sum(map(mul, self._row_weights, row), self._bias))

    def score(self, X: FloatArray) -> FloatArray:
        """Return the churn probabilities, shape ``(n,)``: one matrix product."""
        return self._link.many(X @ self._weights + self._bias)


class TreeScorer:
    """A link of a sum over trees."""

    def __init__(self, trees: TreeSum, link: _Link, sets: SetColumns | None = None) -> None:
        self._sum = trees
        self._sum_row = trees.row
        self._link = link
        self._link_one = link.one
        self._sets = sets

    def score_row(self, row: Row) -> float:
        """Return the churn probability of one customer."""
        if self._sets is not None:
            row = self._sets.row(row)
        return self._link_one(self._sum_row(row))

    def score(self, X: FloatArray) -> FloatArray:
        """Return the churn probabilities, shape ``(n,)``."""
        return self._link.many(self.sums(X))

    def sums(self, X: FloatArray) -> FloatArray:
        """Return what the link makes probabilities of, shape ``(n,)``."""
        if self._sets is not None:
            X = self._sets.matrix(X)
        return self._sum.matrix(X)


class MeanScorer:
    """The mean of several: what a calibration over folds makes of an estimator."""

    def __init__(self, members: list[Scorer]) -> None:
        self._members = members

    def score_row(self, row: Row) -> float:
        """Return the churn probability of one customer."""
        return sum(member.score_row(row) for member in self._members) / len(self._members)

    def score(self, X: FloatArray) -> FloatArray:
        """Return the churn probabilities, shape ``(n,)``."""
        mean: FloatArray = np.mean([member.score(X) for member in self._members], axis=0)
        return mean


class EstimatorScorer:
    """An estimator that only scikit-learn can run, as it runs it."""

    def __init__(self, predict_proba: Callable[[FloatArray], Any]) -> None:
        self._predict_proba = predict_proba

    def score_row(self, row: Row) -> float:
        """Return the churn probability of one customer."""
        return float(self.score(np.array([row]))[0])

    def score(self, X: FloatArray) -> FloatArray:
        """Return the churn probabilities, shape ``(n,)``.

        Raises:
            ScoringError: The estimator returned anything but ``n`` pairs of numbers.
        """
        probabilities = np.asarray(self._predict_proba(X), dtype=np.float64)
        if probabilities.shape != (len(X), 2):
            raise ScoringError(
                f"The model returned an array of shape {probabilities.shape} "
                f"for {len(X)} customers."
            )
        return probabilities[:, 1]


class _Link(Protocol):
    """From what a member adds up to its probability."""

    def one(self, z: float) -> float: ...

    def many(self, z: FloatArray) -> FloatArray: ...


def logistic(z: FloatArray) -> FloatArray:
    """Return ``1 / (1 + exp(-z))``, without overflow."""
    power = np.exp(-np.abs(z))
    probabilities: FloatArray = np.where(z >= 0, 1, power) / (1 + power)
    return probabilities


class _Logistic:
    """``1 / (1 + exp(-z))``, without overflow."""

    @staticmethod
    def one(z: float) -> float:
        if z >= 0:
            return 1 / (1 + math.exp(-z))
        power = math.exp(z)
        return power / (1 + power)

    @staticmethod
    def many(z: FloatArray) -> FloatArray:
        return logistic(z)


class _Identity:
    """What is a probability already, but for what was rounded on the way."""

    @staticmethod
    def one(z: float) -> float:
        return min(max(z, 0.0), 1.0)

    @staticmethod
    def many(z: FloatArray) -> FloatArray:
        return np.clip(z, 0.0, 1.0)


class _Isotonic:
    """A curve of straight pieces, level outside."""

    def __init__(self, x: FloatArray, y: FloatArray) -> None:
        self._x = x
        self._y = y

    def one(self, z: float) -> float:
        return float(np.interp(z, self._x, self._y))

    def many(self, z: FloatArray) -> FloatArray:
        probabilities: FloatArray = np.interp(z, self._x, self._y)
        return probabilities


def make_scorer(model: Members, arrays: Mapping[str, NDArray[Any]], columns: int) -> Scorer:
    """Return what scores with this model.

    Args:
        model: What the manifest says of it.
        arrays: Its arrays, as ``checked_arrays`` returns them.
        columns: How many a row has.

    Raises:
        ValueError: The nodes are no trees.
    """
    members: list[Scorer] = []
    for number, member in enumerate(model.members):
        own = _prefixed(arrays, f"{number}/")
        link = _link(member.link, own)
        if member.kind == "linear":
            members.append(LinearScorer(own["weights"], member.bias, link))
            continue
        forest, sets = _trees(own)
        width = columns + (len(sets) if sets else 0)
        trees = tree_sum(forest, width, baseline=member.baseline, scale=member.scale)
        members.append(TreeScorer(trees, link, sets))
    return members[0] if len(members) == 1 else MeanScorer(members)


def read_trees(arrays: Mapping[str, NDArray[Any]], number: int) -> tuple[Forest, SetColumns | None]:
    """Return the trees of a member, and the set columns that they test.

    Raises:
        ValueError: The nodes are no trees.
    """
    return _trees(_prefixed(arrays, f"{number}/"))


def verify(scorer: Scorer, model: Members | Pickled, golden: Mapping[str, FloatArray]) -> None:
    """Hold a scorer against what the estimator itself said of the golden rows.

    Raises:
        ValueError: They differ.
    """
    X, expected = golden["golden/X"], golden["golden/p"]
    rows = np.array([scorer.score_row(tuple(row)) for row in X.tolist()])
    # numpy's max keeps a NaN, Python's may lose it.
    difference = float(np.abs(np.stack([scorer.score(X), rows]) - expected).max())
    tolerance = _tolerance(model)
    if not difference <= tolerance:
        raise ValueError(
            f"it answers otherwise than its estimator did when it was registered, by up to "
            f"{difference:.1e} (allowed: {tolerance:.0e})"
        )


def _trees(own: Mapping[str, NDArray[Any]]) -> tuple[Forest, SetColumns | None]:
    forest = Forest.of(own["column"], own["number"], own.get("missing_left"))
    if "set_start" not in own:
        return forest, None
    return forest, SetColumns(own["set_start"], own["set_column"], own["set_value"])


def _tolerance(model: Members | Pickled) -> float:
    if model.kind != "members":
        return _TOLERANCE
    if model.precision == "single":
        return _SINGLE_TOLERANCE
    linear = all(m.kind == "linear" and m.link == "logistic" for m in model.members)
    return _LINEAR_TOLERANCE if linear else _TOLERANCE


def _prefixed(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _link(name: Link, arrays: Mapping[str, NDArray[Any]]) -> _Link:
    if name == "isotonic":
        return _Isotonic(arrays["isotonic_x"], arrays["isotonic_y"])
    return _Logistic() if name == "logistic" else _Identity()
