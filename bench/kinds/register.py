"""Fit a model of some kind and register it, with this code or with that of another commit.

``python -m bench.kinds.register KIND NAME`` registers it in the store that ``BENTOML_HOME`` names
and prints its tag as JSON, or null if the ``churn_serving`` that it finds cannot take such a model.
It runs on the code of any commit since 2382d9f, which has the two functions that it needs in
different places, so it imports nothing else of the project.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.kinds import BOOSTERS
from bench.kinds.estimators import SEED, Fitted, fit

__all__ = ["load_dataset", "register"]

THRESHOLD: Final = 0.5

# Newest first.
_REGISTRATION: Final = ("learning.registration", "model.artifact", "artifact")
_DATASET: Final = ("learning.dataset", "dataset")


def register(kind: str, name: str) -> tuple[str, Fitted] | None:
    """Fit a model, register it, and return its tag and itself; None if that cannot be done.

    Raises:
        ModuleNotFoundError: The library of this kind is not installed.
    """
    booster = kind in BOOSTERS
    save = _function("save_booster" if booster else "save_artifact", _REGISTRATION)
    if save is None:
        return None
    data = load_dataset()
    fitted = fit(kind, data.X, data.y)
    what: dict[str, Any] = {
        "threshold": THRESHOLD,
        "name": name,
        "measured": {
            "data": {"source": data.source, "sha256": data.sha256, "rows": data.rows},
            "seed": SEED,
            "candidate": kind,
        },
    }
    if "background" in inspect.signature(save).parameters:
        what["background"] = data.X[np.random.default_rng(SEED).permutation(len(data.X))]
    if not booster:
        # Before the registration was a module of its own, it took the two parts of the model.
        whole = save.__module__.endswith(_REGISTRATION[0])
        estimator = fitted.whole if whole else fitted.estimator
        return save(estimator=estimator, scaler=fitted.scaler, **what), fitted
    with tempfile.TemporaryDirectory() as folder:
        return save(path=fitted.write(Path(folder)), **what), fitted


def load_dataset() -> Any:  # noqa: ANN401 - of whichever commit
    """Return the public Telco table."""
    load = _function("load_dataset", _DATASET)
    assert load is not None, "each commit has one"  # noqa: S101 - see above
    return load()


def _function(name: str, modules: tuple[str, ...]) -> Any:  # noqa: ANN401 - of whichever commit
    for module in modules:
        try:
            found = importlib.import_module(f"churn_serving.{module}")
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("churn_serving"):
                raise
        else:
            if hasattr(found, name):
                return getattr(found, name)
    return None


def main(kind: str, name: str) -> None:
    """Register a model and print its tag."""
    made = register(kind, name)
    json.dump(made and made[0], sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
