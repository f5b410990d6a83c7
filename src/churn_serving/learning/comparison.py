"""Two models on customers whom neither was trained on: which one is better, if that can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from churn_serving.errors import ModelCorruptedError
from churn_serving.learning.measuring.evaluation import COMPARED, differences, measure
from churn_serving.learning.measuring.fingerprints import Fingerprints, seen
from churn_serving.learning.measuring.gates import MIN_TEST_CUSTOMERS
from churn_serving.learning.splits import customers_of
from churn_serving.learning.training import Champion
from churn_serving.model.portable import read_recorded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from churn_serving.learning.dataset import Dataset
    from churn_serving.learning.measuring.resampling import Estimate
    from churn_serving.model.artifact import Artifact, RegisteredModel

__all__ = ["FINGERPRINTS", "Comparison", "champion_of", "compare", "known_rows"]

FINGERPRINTS: Final = "training_rows.bin"
"""The file of a model that says what it was trained on."""

SAMPLES: Final = 1000
_SEED: Final = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was found of models A and B.

    Attributes:
        trained_on: Of A and of B, how many rows are of customers whom it was trained on; None:
            nobody knows.
        rows: How many rows were compared.
        left: How many of their customers left.
        stayed: How many of their customers stayed.
        figures: ``COMPARED`` of A and of B; nothing where they have no meaning.
        differences: A's figures less B's, on the same customers.
        better: 'A', 'B' or, if it cannot be told, ''. By the log-loss.
    """

    trained_on: tuple[int | None, int | None]
    rows: int
    left: int
    stayed: int
    figures: tuple[dict[str, float], dict[str, float]]
    differences: dict[str, Estimate]
    better: str

    @property
    def is_enough(self) -> bool:
        """Whether there are so many customers that a difference means something."""
        return min(self.left, self.stayed) >= MIN_TEST_CUSTOMERS


def known_rows(model: RegisteredModel) -> Fingerprints | None:
    """Return what a model was trained on; None: it was not kept.

    Raises:
        ModelCorruptedError: The file is not the one that was registered.
    """
    if FINGERPRINTS not in model.manifest.files:
        return None
    try:
        content = read_recorded(model.folder, FINGERPRINTS, model.manifest.files)
    except ValueError as error:
        raise ModelCorruptedError(f"Of the model '{model.tag}' {error}.") from None
    return Fingerprints.from_bytes(content)


def champion_of(artifact: Artifact) -> Champion:
    """Return a registered model as what a new one is compared with."""
    return Champion(predict=artifact.scorer.score, known=known_rows(artifact))


def compare(a: Artifact, b: Artifact, dataset: Dataset) -> Comparison:
    """Compare two models, customer by customer.

    Raises:
        ModelError: What one of them was trained on cannot be read.
    """
    of_row = customers_of(dataset).of_row
    trained_on: list[int | None] = []
    unseen = np.ones(dataset.rows, dtype=bool)
    for known in map(known_rows, (a, b)):
        if known is None:
            trained_on.append(None)
            continue
        rows = seen(known, dataset.X, dataset.ids)
        # One known row tells of the customer, and so of all of that customer's rows.
        theirs: NDArray[np.bool_] = np.isin(of_row, of_row[rows])
        trained_on.append(int(theirs.sum()))
        unseen &= ~theirs
    X, y = dataset.X[unseen], dataset.y[unseen]
    customers = np.unique(of_row[unseen], return_inverse=True)[1]
    left, stayed = (len(np.unique(customers[y == label])) for label in (1, 0))
    found: dict[str, Estimate] = {}
    figures: tuple[dict[str, float], ...] = ({}, {})
    if min(left, stayed):
        said = [np.asarray(model.scorer.score(X), dtype=float) for model in (a, b)]
        figures = tuple(
            {name: value for name, value in measure(y, each).items() if name in COMPARED}
            for each in said
        )
        found = differences(y, said[0], said[1], customers, samples=SAMPLES, seed=_SEED)
    better = ""
    if min(left, stayed) >= MIN_TEST_CUSTOMERS:
        loss = found["log_loss"]
        better = "A" if loss.high < 0 else "B" if loss.low > 0 else ""
    return Comparison(
        trained_on=(trained_on[0], trained_on[1]),
        rows=len(y),
        left=left,
        stayed=stayed,
        figures=(figures[0], figures[1]),
        differences=found,
        better=better,
    )
