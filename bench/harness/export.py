"""The registered models as files, and what scikit-learn says of the customers.

``python -m bench.harness.export FOLDER`` writes them and prints the rest as JSON. It is a process
of its own: a harness that had scikit-learn's libraries in memory would share their pages with the
servers, and so make their proportional memory (PSS) smaller than it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cloudpickle
from sklearn.pipeline import make_pipeline

import churn_serving
from bench.harness.workload import PIPELINE, SCORER, customers, model_name
from bench.servers.server import MODELS
from churn_serving.features.rows import customer_row, feature_matrix
from churn_serving.model.artifact import load_artifact
from churn_serving.model.scoring import make_scorer

if TYPE_CHECKING:
    from churn_serving.model.artifact import Artifact

__all__ = ["export"]


def export(artifact: Artifact, folder: Path) -> list[float]:
    """Write a model in the forms that servers can load which have no model store.

    Returns:
        What scikit-learn says of each customer.
    """
    folder.mkdir(parents=True)
    # By value: who loads it need not have this project.
    cloudpickle.register_pickle_by_value(churn_serving)
    try:
        scorer = cloudpickle.dumps(make_scorer(artifact.estimator, artifact.scaler))
    finally:
        cloudpickle.unregister_pickle_by_value(churn_serving)
    (folder / SCORER).write_bytes(scorer)
    pipeline = make_pipeline(artifact.scaler, artifact.estimator)
    (folder / PIPELINE).write_bytes(cloudpickle.dumps(pipeline))
    X = feature_matrix(map(customer_row, customers()))
    churn: list[float] = pipeline.predict_proba(X)[:, 1].tolist()
    return churn


def main(folder: str) -> None:
    """Export the models of the store that ``BENTOML_HOME`` names."""
    made = {}
    for model in MODELS:
        artifact = load_artifact(f"{model_name(model)}:latest")
        made[model] = {"tag": artifact.tag, "churn": export(artifact, Path(folder, model))}
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
