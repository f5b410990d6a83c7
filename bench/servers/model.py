"""What the Python servers share: the model's files, and the way to answer."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Sequence

TAG: Final = os.environ["BENCH_TAG"]
THRESHOLD: Final = 0.5


def load_scorer() -> Any:  # noqa: ANN401 - its class is pickled with it
    """Return this project's scorer."""
    return cloudpickle.loads(Path(os.environ["BENCH_SCORER"]).read_bytes())


def load_pipeline() -> Any:  # noqa: ANN401 - scikit-learn has no types
    """Return scikit-learn's pipeline of the scaler and the estimator."""
    return cloudpickle.loads(Path(os.environ["BENCH_PIPELINE"]).read_bytes())


def outcome(churn: float) -> int:
    """Return 1 if the customer is predicted to leave, else 0."""
    return 1 if churn >= THRESHOLD else 0


def prediction(churn: float) -> dict[str, Any]:
    """Return the answer of ``/predict``."""
    return {
        "churn_prediction": outcome(churn),
        "churn_probability": churn,
        "model_tag": TAG,
    }


def prediction_v1(churn: float, milliseconds: float) -> dict[str, Any]:
    """Return the answer of ``/api/v1/predict``."""
    return {
        "prediction": outcome(churn),
        "probability": {"no_churn": 1.0 - churn, "churn": churn},
        "inference_time_ms": round(milliseconds, 4),
        "model_version": TAG.partition(":")[2],
    }


def batch_prediction(churns: Sequence[float], milliseconds: float) -> dict[str, Any]:
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
