"""What keeps a model from being registered: each gate answers in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.learning.measuring.evaluation import log_losses
from churn_serving.learning.measuring.resampling import Estimate, interval, means

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Labels
    from churn_serving.learning.splits import Indices

__all__ = [
    "MIN_TEST_CUSTOMERS",
    "UNKNOWN_CHAMPION",
    "Verdict",
    "champion",
    "enough",
    "leak",
    "paired",
    "skill",
]

MIN_TEST_CUSTOMERS: Final = 50
"""Of either label: below, a model's figures say little."""

MIN_SKILL: Final = 0.01
"""By how much of it a log-loss must be below that without skill. In a large table, even labels that
are nearly all coin flips leave a trace that is no chance, and no use."""

GIVEN_AWAY: Final = 0.99
"""How much of either label one field may tell; no honest field comes near."""

_LEAK_ROWS: Final = 50_000
_LEAK_LEAVES: Final = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate found.

    Attributes:
        gate: Its name.
        outcome: ``stopped``: the model should not be registered.
        sentence: What was found, for people.
        difference: The paired difference that it rests on, where it rests on one.
    """

    gate: str
    outcome: Literal["passed", "stopped", "skipped"]
    sentence: str
    difference: Estimate | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what is kept with the model."""
        kept: dict[str, Any] = {
            "gate": self.gate,
            "outcome": self.outcome,
            "sentence": self.sentence,
        }
        if self.difference is not None:
            kept["difference"] = {
                "value": self.difference.value,
                "low": self.difference.low,
                "high": self.difference.high,
            }
        return kept


def paired(
    losses: FloatArray, others: FloatArray, customers: Indices, *, samples: int, seed: int
) -> Estimate:
    """Return the mean difference of two models' losses on the same rows, and its interval."""
    difference = losses - others
    _, customers = np.unique(customers, return_inverse=True)
    drawn = means(difference, customers, samples=samples, seed=seed)
    return interval(float(difference.mean()), drawn)


def enough(y: Labels, customers: Indices) -> Verdict:
    """Stop a model that was measured on too few customers of either label."""
    left, stayed = _people(y, customers)
    found = f"{left:,} held-out customers left and {stayed:,} stayed"
    if min(left, stayed) < MIN_TEST_CUSTOMERS:
        return Verdict(
            "test-size",
            "stopped",
            f"{found}: fewer than {MIN_TEST_CUSTOMERS} of a kind measure nothing.",
        )
    return Verdict("test-size", "passed", f"{found}.")


def skill(
    y: Labels,
    probabilities: FloatArray,
    prevalence: float,
    customers: Indices,
    *,
    samples: int,
    seed: int,
) -> Verdict:
    """Stop a model that is not surely, and not usefully, better than the same for everybody.

    Args:
        y: The labels of held-out rows.
        probabilities: What the model says of them.
        prevalence: The share that left in training: what the other one says.
        customers: The customer of each row.
        samples: How many resamples the interval is made of.
        seed: Decides the resamples.
    """
    without = log_losses(y, np.full(len(y), prevalence))
    difference = paired(
        log_losses(y, probabilities), without, customers, samples=samples, seed=seed
    )
    gained = -difference.value / float(without.mean())
    if difference.high < 0 and gained < MIN_SKILL:
        return Verdict(
            "skill",
            "stopped",
            f"The model is hardly better than saying {prevalence:.1%} of everybody: its log-loss "
            f"is {gained:.1%} lower, and less than {MIN_SKILL:.0%} is of no use.",
            difference,
        )
    if difference.high >= 0:
        return Verdict(
            "skill",
            "stopped",
            f"The model is not better than saying {prevalence:.1%} of everybody: its log-loss "
            f"differs by {_shown(difference)}.",
            difference,
        )
    return Verdict(
        "skill",
        "passed",
        f"The log-loss is {-difference.value:.3f} below that of saying {prevalence:.1%} of "
        "everybody.",
        difference,
    )


def leak(X: FloatArray, y: Labels, X_test: FloatArray, y_test: Labels, *, seed: int) -> Verdict:
    """Stop a model whose labels one field alone gives away: it was written after the fact.

    A small tree is grown on each field, and asked about the held-out rows.
    """
    rows = np.random.default_rng(seed).permutation(len(y))[:_LEAK_ROWS]
    for field in FEATURE_NAMES:
        columns = [at for at, name in enumerate(COLUMN_NAMES) if name.partition("=")[0] == field]
        tree = DecisionTreeClassifier(
            max_leaf_nodes=_LEAK_LEAVES, class_weight="balanced", random_state=seed
        ).fit(X[rows][:, columns], y[rows])
        said = tree.predict(X_test[:, columns])
        right = min(float(np.mean(said[y_test == label] == label)) for label in (0, 1))
        if right >= GIVEN_AWAY:
            return Verdict(
                "leak",
                "stopped",
                f"The field '{field}' alone tells of {right:.1%} of the held-out customers whether "
                "they left: it gives the label away, or the label was made of it.",
            )
    return Verdict("leak", "passed", "No field alone gives the label away.")


def champion(
    y: Labels,
    probabilities: FloatArray,
    champions: FloatArray,
    customers: Indices,
    unseen: NDArray[np.bool_],
    *,
    samples: int,
    seed: int,
) -> Verdict:
    """Stop a model that is surely worse than the champion on rows that neither has trained on.

    Args:
        y: The labels of the rows that the model has not trained on.
        probabilities: What the model says of them.
        champions: What the champion says of them.
        customers: The customer of each row.
        unseen: Which of them the champion has not trained on, either.
        samples: How many resamples the interval is made of.
        seed: Decides the resamples.
    """
    y, customers = y[unseen], customers[unseen]
    probabilities, champions = probabilities[unseen], champions[unseen]
    left, stayed = _people(y, customers)
    if min(left, stayed) < MIN_TEST_CUSTOMERS:
        return Verdict(
            "champion",
            "skipped",
            "Not compared with the champion: of the held-out customers whom it has not trained "
            f"on, {left:,} left and {stayed:,} stayed, and {MIN_TEST_CUSTOMERS} of a kind are "
            "needed.",
        )
    difference = paired(
        log_losses(y, probabilities),
        log_losses(y, champions),
        customers,
        samples=samples,
        seed=seed,
    )
    measured = (
        f"on {len(np.unique(customers)):,} customers whom neither has trained on, the log-loss "
        f"differs from the champion's by {_shown(difference)}."
    )
    if difference.low > 0:
        return Verdict("champion", "stopped", f"Worse than the champion: {measured}", difference)
    if difference.high < 0:
        return Verdict("champion", "passed", f"Better than the champion: {measured}", difference)
    return Verdict("champion", "passed", f"No worse than the champion: {measured}", difference)


def _people(y: Labels, customers: Indices) -> tuple[int, int]:
    """Return how many customers left and how many stayed, however many rows they have."""
    left, stayed = (len(np.unique(customers[y == label])) for label in (1, 0))
    return left, stayed


def _shown(difference: Estimate) -> str:
    return f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


UNKNOWN_CHAMPION: Final = Verdict(
    "champion",
    "skipped",
    "Not compared with the champion: nobody knows which customers it was trained on.",
)
