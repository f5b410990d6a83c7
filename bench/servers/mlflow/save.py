"""Save a pickled scikit-learn pipeline as an MLflow model, in MLflow's own environment.

python save.py PIPELINE FOLDER
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import mlflow.sklearn
import numpy as np
from mlflow.models import infer_signature


def save(pipeline_file: Path, folder: Path) -> None:
    """Save the pipeline; what is served is its ``predict_proba``."""
    pipeline = pickle.loads(pipeline_file.read_bytes())  # noqa: S301 - written by the harness
    example = np.zeros((1, pipeline.n_features_in_))
    mlflow.sklearn.save_model(
        pipeline,
        folder,
        serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        signature=infer_signature(example, pipeline.predict_proba(example)),
        pyfunc_predict_fn="predict_proba",
    )


if __name__ == "__main__":
    save(*map(Path, sys.argv[1:]))
