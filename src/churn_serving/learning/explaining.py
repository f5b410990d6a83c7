"""What a model's reasons are computed with: made once, when it is registered.

Which way is taken depends on the model: see ``churn_serving.model.reasons``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.model.portable import Linear, Members, Trees
from churn_serving.model.reasons.coalitions import CoalitionImpacts
from churn_serving.model.reasons.linear import LinearImpacts
from churn_serving.model.reasons.players import SPANS, shapley_weights
from churn_serving.model.reasons.section import (
    BACKGROUND,
    BACKGROUND_ROWS,
    LOG_ODDS,
    MEAN,
    TABLE,
    Background,
    Section,
    is_additive,
    log_odds_of,
)
from churn_serving.model.reasons.sentences import choices_of
from churn_serving.model.reasons.units import patterns_of
from churn_serving.model.scoring import EstimatorScorer, make_scorer, read_trees

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.model.portable import Pickled
    from churn_serving.model.reasons.patterns import Patterns
    from churn_serving.model.scoring import Scorer

__all__ = ["Explained", "background_of", "explain", "pattern_table"]

_FEW: Final = 32
"""Customers of the background that stand for all where each costs 2^8 rows a customer."""


class Explained(NamedTuple):
    """What is kept with the model.

    Attributes:
        section: For the manifest.
        arrays: By their names in the file.
    """

    section: Section
    arrays: dict[str, NDArray[Any]]


def background_of(X: FloatArray, of_row: NDArray[np.intp], *, seed: int) -> FloatArray:
    """Return a row of each of ``BACKGROUND_ROWS`` customers, or of all; drawn by lot.

    Args:
        X: The rows of customers, shape ``(n, columns)``.
        of_row: The customer of each row, numbered from 0 without a gap.
        seed: Decides who is drawn.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(X))
    row_of = order[np.unique(of_row[order], return_index=True)[1]]
    background: FloatArray = X[random.permutation(row_of)[:BACKGROUND_ROWS]]
    return background


def explain(
    model: Members | Pickled,
    arrays: Mapping[str, NDArray[Any]],
    reference: Callable[[FloatArray], FloatArray],
    background: FloatArray,
) -> Explained:
    """Return what computes the reasons of a model.

    Args:
        model: What the manifest says of it.
        arrays: Of the model.
        reference: The estimator's own probabilities, shape ``(n,)``, of unscaled rows.
        background: Customers that it was trained on, unscaled, shape ``(n, columns)``, drawn by
            lot; the first ``BACKGROUND_ROWS`` are taken.
    """
    background = background[:BACKGROUND_ROWS]
    member = model.members[0] if isinstance(model, Members) and is_additive(model) else None
    if isinstance(member, Linear):
        mean = background.mean(axis=0)
        baseline = LinearImpacts(arrays["0/weights"], member.bias, mean).baseline
        return _explained("linear", LOG_ODDS, baseline, background, {MEAN: mean})
    if isinstance(member, Trees):
        try:
            patterns = patterns_of(*read_trees(arrays, 0))
        except ValueError:
            pass  # too large: by coalitions, below
        else:
            table, means = pattern_table(patterns, background)
            baseline = member.baseline + member.scale * float(means.sum())
            return _explained(
                "patterns", LOG_ODDS, baseline, background, {TABLE: member.scale * table}
            )
    scorer: Scorer = (
        make_scorer(model, arrays, len(COLUMN_NAMES))
        if isinstance(model, Members)
        else EstimatorScorer(lambda X: np.stack([1 - reference(X), reference(X)], axis=1))
    )
    scale, log_odds = log_odds_of(model, scorer)
    few = background[_evenly(log_odds(background))]
    baseline = CoalitionImpacts(log_odds, few).baseline
    return _explained("coalitions", scale, baseline, background, {BACKGROUND: few})


def _evenly(log_odds: FloatArray) -> NDArray[np.intp]:
    """Return those in the middles of equal parts of the background, in the order of log-odds.

    They stand for it twice as well as a lot does: on the Telco boosting the impacts are off by 0.03
    on average (0.06 by lot), where an impact is 0.27, and the baseline by 0.02 (0.28).
    """
    count = min(_FEW, len(log_odds))
    middles = (np.arange(count) + 0.5) * len(log_odds) / count
    places: NDArray[np.intp] = np.argsort(log_odds, kind="stable")[middles.astype(np.intp)]
    return places


def pattern_table(patterns: Patterns, background: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how much each field moves a unit's part of the sum, for each of its patterns.

    Of the background, a unit sees the patterns and how often each comes: the worth of a coalition
    is looked up for all of the unit's patterns, coalitions and patterns of the background at once.

    Returns:
        The Shapley values, shape ``(patterns, fields)``, and the mean of each unit.
    """
    theirs = patterns.matrix(background)
    start = patterns.start
    table = np.zeros((start[-1], len(FEATURE_NAMES)))
    means = np.zeros(len(patterns.bits))
    first_bit = np.cumsum(patterns.bits) - patterns.bits
    for unit, bits in enumerate(patterns.bits.tolist()):
        here = slice(start[unit], start[unit + 1])
        asked = patterns.players[first_bit[unit] : first_bit[unit] + bits]
        players, player = np.unique(asked, return_inverse=True)
        coalitions = np.arange(2 ** len(players))
        # The bits that a coalition decides.
        decided = (coalitions[:, None] >> player & 1) @ (1 << np.arange(bits))
        pattern = np.arange(2**bits)
        found, count = np.unique(theirs[:, unit], return_counts=True)
        mixed = (pattern[:, None, None] & decided[:, None]) | (found & ~decided[:, None])
        worth = patterns.values[here][mixed] @ (count / len(background))
        table[here, players] = worth @ shapley_weights(len(players))
        means[unit] = worth[0, 0]
    return table, means


def _explained(
    kind: Any,  # noqa: ANN401 - one of the section's
    scale: Any,  # noqa: ANN401 - likewise
    baseline: float,
    background: FloatArray,
    arrays: dict[str, NDArray[Any]],
) -> Explained:
    means: dict[str, float] = {}
    shares: dict[str, list[float]] = {}
    for name, (first, end) in zip(FEATURE_NAMES, SPANS, strict=True):
        mean = background[:, first:end].mean(axis=0).tolist()
        choices = choices_of(name)
        if choices is None:
            means[name] = mean[0]
        else:
            shares[name] = mean if end - first == len(choices) else [1 - mean[0], mean[0]]
    rows = np.ascontiguousarray(background, "<f8")
    described = Background(
        rows=len(rows),
        sha256=hashlib.sha256(rows.tobytes()).hexdigest(),
        used=len(arrays[BACKGROUND]) if BACKGROUND in arrays else len(rows),
        means=means,
        shares=shares,
    )
    section = Section(kind=kind, scale=scale, baseline=baseline, background=described)
    return Explained(section, arrays)
