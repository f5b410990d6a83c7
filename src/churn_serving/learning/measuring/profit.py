"""What contacting customers by their probability would have brought, on customers who are known.

Whoever left counts as one who was about to leave, and accepts the offer as probably as the policy
says; whoever stayed takes the offer and would have stayed anyway. That is an estimate, and more
certain than it is: nobody here was contacted, acceptance is taken to be the same for everybody, and
the label says who had left when the table was made, not who leaves next.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from churn_serving.learning.measuring.resampling import cells_of, interval, resamples

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Labels
    from churn_serving.learning.measuring.resampling import Counts
    from churn_serving.learning.splits import Indices
    from churn_serving.model.policy import Policy

__all__ = ["profit_curve"]

_BINS: Final = 100
_TAILS: Final = (2.5, 97.5)


def profit_curve(
    y: Labels,
    probabilities: FloatArray,
    customers: Indices,
    policy: Policy,
    *,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """Measure the profit per customer of contacting everybody above a threshold, for each of them.

    The intervals are those of resampled customers, in the same draws as all other figures. For
    a table with one row for each customer that is the same as drawing how many customers are in
    each bin from a multinomial distribution; with more rows, all rows of a customer come together.

    Args:
        y: The labels, shape ``(n,)``.
        probabilities: Of churn, shape ``(n,)``.
        customers: The customer of each row, numbered from 0 on.
        policy: Costs and value; every customer is worth its ``customer_value``.
        samples: How many resamples the intervals are made of.
        seed: Decides the resamples.

    Returns:
        As JSON knows it: ``edges`` of bins, and how many who ``left`` and ``stayed`` have a
        probability above an edge and up to the next (0 is in the first bin): enough to make the
        curve for any other policy. ``threshold``: the policy's, if it has one. ``curve``: the
        profit at each edge and at the policy's threshold, with its interval. ``per_customer``:
        that of the policy. ``best``: the threshold with the highest profit; on the same
        customers, so it looks better than it is.
    """
    edges = np.arange(_BINS + 1) / _BINS
    threshold = policy.threshold
    # A policy for which no contact ever pays is one whose threshold is never passed.
    at = 1.0 if threshold is None else min(threshold, 1.0)
    cuts = np.union1d(edges, at)
    # Above a cut, as a contact must pay; a probability of 0 has to be somewhere, too.
    cells = cells_of(y, _bin_of(probabilities, cuts).astype(float))
    reached = np.array([np.count_nonzero(cells.scores >= cut) for cut in range(len(cuts))])

    def profits(counts: Counts) -> FloatArray:
        """Return the profit per customer at each cut, shape ``(samples, cuts)``."""
        left, stayed = (
            np.pad(np.cumsum(each, axis=1), ((0, 0), (1, 0)))
            for each in (counts.left, counts.stayed)
        )
        everybody = (left + stayed)[:, -1:]
        brought = _gain(policy) * left[:, reached] - _loss(policy) * stayed[:, reached]
        profit: FloatArray = brought / everybody
        return profit

    value = profits(cells.counts)[0]
    drawn = np.concatenate(
        [profits(counts) for (counts,) in resamples([cells], customers, samples=samples, seed=seed)]
    )
    low, high = np.percentile(drawn, _TAILS, axis=0)
    place = int(np.searchsorted(cuts, at))
    bins = _bin_of(probabilities, edges)
    return {
        "edges": edges.tolist(),
        "left": np.bincount(bins[y == 1], minlength=_BINS).tolist(),
        "stayed": np.bincount(bins[y == 0], minlength=_BINS).tolist(),
        "policy": policy.figures,
        "policy_version": policy.version,
        # BentoML's metadata know no null.
        **({} if threshold is None else {"threshold": threshold}),
        "per_customer": asdict(interval(value[place], drawn[:, place])),
        "best": asdict(interval(cuts[np.argmax(value)], cuts[np.argmax(drawn, axis=1)])),
        "curve": {
            "threshold": cuts.tolist(),
            "profit": value.tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
        },
    }


def _gain(policy: Policy) -> float:
    """Return what contacting one who is about to leave brings: the profit at a probability of 1."""
    return policy.decide(1.0).expected_profit


def _loss(policy: Policy) -> float:
    """Return what contacting one who stays costs: the loss at a probability of 0."""
    return -policy.decide(0.0).expected_profit


def _bin_of(probabilities: FloatArray, cuts: FloatArray) -> Indices:
    """Return, of each probability, the last cut that it is above; the first for 0."""
    bins: Indices = np.maximum(np.searchsorted(cuts, probabilities, side="left") - 1, 0)
    return bins
