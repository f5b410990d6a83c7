"""What is measured of probabilities against what happened, with intervals over customers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from churn_serving.learning.measuring.resampling import (
    MAX_SCORES,
    Cells,
    Counts,
    Estimate,
    cells_of,
    interval,
    resamples,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Labels
    from churn_serving.learning.splits import Indices

__all__ = [
    "COMPARED",
    "LIFT_SHARES",
    "METRICS",
    "best_threshold",
    "curves",
    "differences",
    "evaluate",
    "log_losses",
    "measure",
    "no_skill",
]

METRICS: Final = ("auc", "pr_auc", "log_loss", "brier")
"""What needs no threshold; measured in each fold, too."""

COMPARED: Final = ("auc", "log_loss", "brier")
"""What two models are compared by."""

LIFT_SHARES: Final = {"lift_5": 0.05, "lift_10": 0.10, "lift_20": 0.20}
"""The share of customers whom one can contact."""

_CURVE_POINTS: Final = 51
_TINY: Final = np.finfo(float).tiny


def log_losses(y: Labels, probabilities: FloatArray) -> FloatArray:
    """Return each row's log-loss; 0 and 1 are taken for the next number, as scikit-learn does."""
    epsilon = np.finfo(float).eps
    clipped = np.clip(probabilities, epsilon, 1 - epsilon)
    losses: FloatArray = -np.log(np.where(y == 1, clipped, 1 - clipped))
    return losses


def measure(y: Labels, probabilities: FloatArray) -> dict[str, float]:
    """Return ``METRICS``."""
    cells = cells_of(y, probabilities)
    figures = _ranking(cells.counts) | _losses(cells, y, probabilities, cells.counts)
    return {name: float(figures[name][0]) for name in METRICS}


def evaluate(
    y: Labels,
    probabilities: FloatArray,
    threshold: float,
    customers: Indices,
    *,
    samples: int,
    seed: int,
) -> dict[str, Estimate]:
    """Measure ``METRICS``, those of the threshold and the lift, each with its interval.

    Args:
        y: The labels, shape ``(n,)``.
        probabilities: Of churn, shape ``(n,)``.
        threshold: From it on, churn is predicted.
        customers: The customer of each row, numbered from 0 on.
        samples: How many resamples the intervals are made of.
        seed: Decides the resamples.
    """
    exact, coarse = (cells_of(y, probabilities, limit) for limit in (None, MAX_SCORES))

    def figures(cells: Cells, counts: Counts) -> dict[str, FloatArray]:
        return (
            _ranking(counts)
            | _losses(cells, y, probabilities, counts)
            | _decisions(cells, (probabilities >= threshold).astype(float), counts)
            | _lift(counts)
        )

    values = figures(exact, exact.counts)
    batches = [
        figures(coarse, counts)
        for (counts,) in resamples([coarse], customers, samples=samples, seed=seed)
    ]
    return {
        name: interval(float(value[0]), np.concatenate([batch[name] for batch in batches]))
        for name, value in values.items()
    }


def differences(
    y: Labels,
    probabilities: FloatArray,
    others: FloatArray,
    customers: Indices,
    *,
    samples: int,
    seed: int,
) -> dict[str, Estimate]:
    """Return how far two models' figures are apart, in ``COMPARED``, each with its interval.

    Both are measured on the same resamples: what is hard for both does not count.

    Args:
        y: The labels, shape ``(n,)``.
        probabilities: What the first one says, shape ``(n,)``.
        others: What the second one says, shape ``(n,)``.
        customers: The customer of each row, numbered from 0 on.
        samples: How many resamples the intervals are made of.
        seed: Decides the resamples.
    """

    def figures(cells: Sequence[Cells], counts: Sequence[Counts]) -> dict[str, FloatArray]:
        one, other = (
            _ranking(each) | _losses(table, y, said, each)
            for table, said, each in zip(cells, (probabilities, others), counts, strict=True)
        )
        return {name: one[name] - other[name] for name in COMPARED}

    exact = [cells_of(y, said) for said in (probabilities, others)]
    coarse = [cells_of(y, said, MAX_SCORES) for said in (probabilities, others)]
    values = figures(exact, [table.counts for table in exact])
    batches = [
        figures(coarse, counts)
        for counts in resamples(coarse, customers, samples=samples, seed=seed)
    ]
    return {
        name: interval(float(value[0]), np.concatenate([batch[name] for batch in batches]))
        for name, value in values.items()
    }


def no_skill(y: Labels, prevalence: float) -> dict[str, float]:
    """Return the same figures of saying the same of everybody: the share that left in training."""
    constant = np.full(len(y), prevalence)
    left = float(y.mean())
    return measure(y, constant) | {
        # At best: everybody is predicted to leave.
        "precision": left,
        "recall": 1.0,
        "f1": 2 * left / (1 + left),
        **dict.fromkeys(LIFT_SHARES, 1.0),
    }


def best_threshold(
    y: Labels, probabilities: FloatArray, customers: Indices, *, samples: int, seed: int
) -> Estimate:
    """Return the threshold that maximises F1, and how far it moves with the sample."""
    exact, coarse = (cells_of(y, probabilities, limit) for limit in (None, MAX_SCORES))
    moved = [
        coarse.scores[_best(counts)]
        for (counts,) in resamples([coarse], customers, samples=samples, seed=seed)
    ]
    return interval(float(exact.scores[_best(exact.counts)[0]]), np.concatenate(moved))


def curves(y: Labels, probabilities: FloatArray) -> dict[str, list[list[float]]]:
    """Return points to draw: precision by recall, and the share found by the share contacted."""
    counts = cells_of(y, probabilities).counts
    found, contacted = np.cumsum(counts.left[0]), np.cumsum((counts.left + counts.stayed)[0])
    shares = np.linspace(0, 1, _CURVE_POINTS)
    gains = np.interp(shares * contacted[-1], np.r_[0, contacted], np.r_[0, found]) / found[-1]
    # Of each recall the threshold that first reaches it.
    at = np.searchsorted(found, shares[1:] * found[-1] - 1e-9)
    return {
        "precision_recall": np.c_[found[at] / found[-1], found[at] / contacted[at]].tolist(),
        "gains": np.c_[shares, gains].tolist(),
    }


def _best(counts: Counts) -> Indices:
    """Return, of each sample, the position of the score from which on F1 is highest."""
    found, contacted = np.cumsum(counts.left, 1), np.cumsum(counts.left + counts.stayed, 1)
    f1 = 2 * found / (found[:, -1:] + contacted)
    best: Indices = np.argmax(f1, axis=1)
    return best


def _ranking(counts: Counts) -> dict[str, FloatArray]:
    found, wrong = np.cumsum(counts.left, 1), np.cumsum(counts.stayed, 1)
    left, stayed = found[:, -1], wrong[:, -1]
    # A pair is ranked right if the one who stayed comes later; a tie is half a pair.
    pairs = np.sum(counts.left * (stayed[:, None] - wrong + counts.stayed / 2), axis=1)
    precision = found / np.maximum(found + wrong, 1)
    with np.errstate(invalid="ignore"):  # a sample that lacks a class has no such figure
        return {
            "auc": pairs / (left * stayed),
            "pr_auc": np.sum(counts.left * precision, axis=1) / left,
        }


def _losses(
    cells: Cells, y: Labels, probabilities: FloatArray, counts: Counts
) -> dict[str, FloatArray]:
    return {
        "log_loss": _mean(cells, log_losses(y, probabilities), counts),
        "brier": _mean(cells, (y - probabilities) ** 2, counts),
    }


def _mean(cells: Cells, values: FloatArray, counts: Counts) -> FloatArray:
    means = cells.mean_of(values)
    total = counts.left.sum(1) + counts.stayed.sum(1)
    mean: FloatArray = (counts.left @ means[1::2] + counts.stayed @ means[::2]) / total
    return mean


def _decisions(cells: Cells, flagged: FloatArray, counts: Counts) -> dict[str, FloatArray]:
    share = cells.mean_of(flagged)
    found, wrong = counts.left @ share[1::2], counts.stayed @ share[::2]
    left = counts.left.sum(1)
    with np.errstate(invalid="ignore"):
        return {
            "f1": 2 * found / (found + wrong + left),
            "precision": found / (found + wrong),
            "recall": found / left,
        }


def _lift(counts: Counts) -> dict[str, FloatArray]:
    """Return how many times the average the share of leavers is among those most at risk."""
    shares = np.array(list(LIFT_SHARES.values()))
    found, contacted = np.cumsum(counts.left, 1), np.cumsum(counts.left + counts.stayed, 1)
    # Among equal scores the line between two points shares them out evenly.
    reached = np.array(
        [
            np.interp(shares * each[-1], np.r_[0, each], np.r_[0, hits])
            for each, hits in zip(contacted, found, strict=True)
        ]
    )
    with np.errstate(invalid="ignore"):
        lift = reached / found[:, -1:] / shares
    return dict(zip(LIFT_SHARES, lift.T, strict=True))
