"""Which candidate is taken: the simplest that is not surely worse, fold by fold, than the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from churn_serving.learning.measuring.resampling import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from churn_serving.features.columns import FloatArray

__all__ = ["FOLDS", "corrected_standard_error", "mean_over_folds", "simplest"]

FOLDS: Final = 5
_Z_95: Final = 1.959963984540054


def corrected_standard_error(scores: FloatArray) -> float:
    """Return the standard error of a mean over repeated folds.

    The training folds overlap, so the scores are not independent; the correction is that of
    Nadeau and Bengio, "Inference for the Generalization Error" (2003), section 3.
    """
    test_over_train = 1 / (FOLDS - 1)
    return float(np.sqrt((1 / len(scores) + test_over_train) * np.var(scores, ddof=1)))


def mean_over_folds(scores: FloatArray) -> Estimate:
    """Return the mean and its 95% interval."""
    mean, error = float(np.mean(scores)), corrected_standard_error(scores)
    return Estimate(mean, mean - _Z_95 * error, mean + _Z_95 * error)


def simplest(losses: Sequence[FloatArray]) -> int:
    """Return the position of the simplest candidate within one standard error of the best.

    The rule of Hastie et al. (The Elements of Statistical Learning, 7.10) with the *paired*
    difference: all candidates find the same fold hard, so how far the folds differ says nothing of
    how far the candidates do.

    Args:
        losses: Of each candidate, from the simplest to the most complex, the loss in each fold.
    """
    best = min(losses, key=np.mean)
    return next(
        at
        for at, each in enumerate(losses)
        if np.mean(each - best) <= corrected_standard_error(each - best)
    )
