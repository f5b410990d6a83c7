"""The kinds of models that are measured, by the names that ``--model`` takes.

``estimators`` fits them, ``register`` puts them into a model store; ``python -m bench.kinds``
compares this project's scorer with each estimator's own ``predict_proba``, without a server.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BOOSTERS",
    "CALIBRATED",
    "FOREST",
    "GRADIENT_BOOSTING",
    "KINDS",
    "LIGHTGBM",
    "LOGISTIC",
    "MODELS",
    "TREE",
    "XGBOOST",
    "tolerance",
]

LOGISTIC: Final = "logistic"
TREE: Final = "hist-gradient-boosting"
MODELS: Final = (LOGISTIC, TREE)
"""The ``--model`` of train_and_save.py: what is measured unless others are asked for."""

FOREST: Final = "random-forest"
GRADIENT_BOOSTING: Final = "gradient-boosting"
CALIBRATED: Final = "calibrated"
XGBOOST: Final = "xgboost"
LIGHTGBM: Final = "lightgbm"
BOOSTERS: Final = (XGBOOST, LIGHTGBM)
"""These are registered from the file that their own library writes."""

KINDS: Final = (*MODELS, FOREST, GRADIENT_BOOSTING, CALIBRATED, *BOOSTERS)

_TOLERANCE: Final = 1e-9
_XGBOOST_TOLERANCE: Final = 5e-7
"""It sums its trees in float32, in an order of its own."""


def tolerance(kind: str) -> float:
    """Return by how much a probability may differ from the estimator's own."""
    return _XGBOOST_TOLERANCE if kind == XGBOOST else _TOLERANCE
