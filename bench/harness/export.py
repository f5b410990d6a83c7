"""The registered models as files, and what their estimators say of the customers.

``python -m bench.harness.export FOLDER MODEL ...`` writes them and prints the rest as JSON; models
that train_and_save.py does not know are fitted and registered first. It is a process of its own: a
harness that had scikit-learn's libraries in memory would share their pages with the servers, and so
make their proportional memory (PSS) smaller than it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import bentoml
import cloudpickle

import churn_serving
from bench.errors import BenchmarkError
from bench.harness.workload import PIPELINE, SCORER, customers, model_name
from bench.kinds import MODELS
from bench.kinds.register import register
from churn_serving.features.rows import customer_row, feature_matrix
from churn_serving.model.artifact import load_artifact

__all__ = ["export"]


def export(tag: str, whole: Any, folder: Path) -> list[float]:  # noqa: ANN401 - of different libraries
    """Write a model in the forms that servers can load which have no model store.

    Args:
        tag: Of the registered model.
        whole: The same, with its own ``predict_proba`` for unscaled rows.
        folder: Made for the files.

    Returns:
        What the model itself says of each customer.
    """
    folder.mkdir(parents=True)
    # By value: who loads it need not have this project.
    cloudpickle.register_pickle_by_value(churn_serving)
    try:
        scorer = cloudpickle.dumps(load_artifact(tag).scorer)
    finally:
        cloudpickle.unregister_pickle_by_value(churn_serving)
    (folder / SCORER).write_bytes(scorer)
    (folder / PIPELINE).write_bytes(cloudpickle.dumps(whole))
    X = feature_matrix(map(customer_row, customers()))
    churn: list[float] = whole.predict_proba(X)[:, 1].tolist()
    return churn


def _model(model: str) -> tuple[str, Any]:
    """Return the tag of a model and the model itself.

    Raises:
        BenchmarkError: This project cannot serve it.
    """
    if model in MODELS:
        tag = str(bentoml.models.get(f"{model_name(model)}:latest").tag)
        return tag, bentoml.sklearn.load_model(tag)
    if (made := register(model, model_name(model))) is None:
        raise BenchmarkError(f"There is no way to register {model}.")
    tag, fitted = made
    return tag, fitted.whole


def main(folder: str, *models: str) -> None:
    """Export these models, from or by way of the store that ``BENTOML_HOME`` names."""
    made = {}
    for model in models:
        tag, whole = _model(model)
        made[model] = {"tag": tag, "churn": export(tag, whole, Path(folder, model))}
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
