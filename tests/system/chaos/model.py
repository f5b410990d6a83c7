"""A registered model that misbehaves on demand, in a server that knows nothing of these tests.

Before each call it reads what to do from the JSON file that ``CHAOS_FAULTS`` names:

- ``{"sleep": 0.05}``: take that many seconds;
- ``{"raise_share": 0.6}``: raise on that share of the calls, at random;
- ``{"hang_until": 1700000000.0}``: return only then (``time.time()``);
- ``{"poison_tenure": 119}``: raise if a customer in the batch has been there for so many months.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cloudpickle
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from churn_serving.features.rows import verification_matrix
from churn_serving.learning.registration import save_artifact

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FAULTS", "REST", "Faults", "register_models"]

FAULTS: Final = "CHAOS_FAULTS"
REST: Final = 0.002
"""Seconds a healthy call takes: enough to be given a thread, like any model of some size."""


class Faults:
    """The file that the model obeys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heal()

    def inject(self, **faults: float) -> None:
        """Have the model do this, and only this, from its next call on."""
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"sleep": REST} | faults))
        new.replace(self.path)

    def poisoned(self) -> list[int]:
        """Return the sizes of the batches that raised because of a poisoned customer."""
        path = self.path.with_suffix(".poisoned")
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def heal(self) -> None:
        """Have it behave."""
        self.inject()


class FaultyModel(BaseEstimator):  # type: ignore[misc] # scikit-learn ships no types
    """Everybody's churn probability is 0.25, unless the file says otherwise."""

    classes_ = (0, 1)

    def predict_proba(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities, shape ``(n, 2)``."""
        answer = np.tile((0.75, 0.25), (len(X), 1))
        if "CHAOS_FAULTS" not in os.environ:  # it is being registered
            return answer
        path = Path(os.environ["CHAOS_FAULTS"])
        faults = json.loads(path.read_text())
        if random.random() < faults.get("raise_share", 0):  # noqa: S311 - nobody's secret
            raise RuntimeError("A fault was injected.")
        if faults.get("poison_tenure") in X[:, 0]:
            with path.with_suffix(".poisoned").open("a") as sizes:
                print(len(X), file=sizes)
            raise ValueError("A poisoned customer was injected.")
        time.sleep(max(faults["sleep"], faults.get("hang_until", 0) - time.time()))
        return answer


class ByValue(FaultyModel):
    """Is pickled as what it holds, the class included: the server cannot import this module."""

    def __init__(self, content: object) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return cloudpickle.loads, (cloudpickle.dumps(self.content),)


def _revive() -> FaultyModel:
    if "CHAOS_FAULTS" in os.environ:
        raise ZeroDivisionError("A broken pickle was injected.")
    return FaultyModel()


class Broken:
    """Can be unpickled where it is registered, and by no server."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, ()


def register_models() -> dict[str, str]:
    """Register a healthy, a faulty and a broken model; return their tags by these names.

    The last two are unpickled by the server, which must be allowed to: arrays have no faults.
    """
    X = verification_matrix()
    healthy = make_pipeline(StandardScaler(), LogisticRegression())
    healthy.fit(X, X[:, 0] < np.median(X[:, 0]))
    this = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(this)
    try:
        return {
            name: save_artifact(
                estimator=estimator,
                threshold=0.5,
                measured={},
                name=f"chaos_{name}",
                allow_pickle=True,
            )
            for name, estimator in [
                ("healthy", healthy),
                ("faulty", ByValue(FaultyModel())),
                ("broken", ByValue(Broken())),
            ]
        }
    finally:
        cloudpickle.unregister_pickle_by_value(this)
