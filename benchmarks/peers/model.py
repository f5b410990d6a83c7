"""What all peers share: the registered model, the schema and the way to answer."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from churn_serving.http.api.v0 import Prediction
    from churn_serving.http.api.v1 import BatchPrediction, PredictionV1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The registered model as a file that needs no model store; ``benchmarks.exports`` writes it.

    Attributes:
        scaler: The fitted scaler.
        estimator: The fitted classifier; it sees scaled features.
        threshold: Probabilities from here on are predicted as churn.
        tag: ``name:version`` in the model store.
    """

    scaler: Any
    estimator: Any
    threshold: float
    tag: str


ARTIFACT: Final = Bundle(**cloudpickle.loads(Path(os.environ["CHURN_BUNDLE"]).read_bytes()))
_VERSION: Final = ARTIFACT.tag.partition(":")[2]


def outcome(churn: float) -> Literal[0, 1]:
    """Return 1 if the customer is predicted to leave, else 0."""
    return 1 if churn >= ARTIFACT.threshold else 0


def prediction(churn: float) -> Prediction:
    """Return the answer of ``/predict``."""
    return {
        "churn_prediction": outcome(churn),
        "churn_probability": churn,
        "model_tag": ARTIFACT.tag,
    }


def prediction_v1(churn: float, milliseconds: float) -> PredictionV1:
    """Return the answer of ``/api/v1/predict``."""
    return {
        "prediction": outcome(churn),
        "probability": {"no_churn": 1.0 - churn, "churn": churn},
        "inference_time_ms": round(milliseconds, 4),
        "model_version": _VERSION,
    }


def batch_prediction(churns: Sequence[float], milliseconds: float) -> BatchPrediction:
    """Return the answer of ``/api/v1/predict/batch``."""
    return {
        "results": [
            {
                "prediction": outcome(churn),
                "probability": {"no_churn": 1.0 - churn, "churn": churn},
                "batch_index": index,
            }
            for index, churn in enumerate(churns)
        ],
        "batch_size": len(churns),
        "total_inference_time_ms": round(milliseconds, 4),
    }


def freeze() -> None:
    """Take what exists now out of every later garbage collection, as the service does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
