"""The registered models, in the forms that other frameworks can load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cloudpickle
from sklearn.pipeline import make_pipeline

import churn_serving
from churn_serving.model.scoring import make_scorer

if TYPE_CHECKING:
    from pathlib import Path

    from churn_serving.model.artifact import Artifact

__all__ = ["Export", "export"]


@dataclass(frozen=True, slots=True)
class Export:
    """Files of one model; see ``framework.Site``."""

    scorer: Path
    pipeline: Path
    bundle: Path
    tag: str


def export(artifact: Artifact, folder: Path) -> Export:
    """Write the model's files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Export(
        folder / "scorer.pkl", folder / "pipeline.pkl", folder / "bundle.pkl", artifact.tag
    )
    # By value: who loads it need not have this project.
    cloudpickle.register_pickle_by_value(churn_serving)
    try:
        made.scorer.write_bytes(cloudpickle.dumps(make_scorer(artifact.estimator, artifact.scaler)))
    finally:
        cloudpickle.unregister_pickle_by_value(churn_serving)
    made.pipeline.write_bytes(cloudpickle.dumps(make_pipeline(artifact.scaler, artifact.estimator)))
    bundle = {
        "scaler": artifact.scaler,
        "estimator": artifact.estimator,
        "threshold": artifact.threshold,
        "tag": artifact.tag,
    }
    made.bundle.write_bytes(cloudpickle.dumps(bundle))
    return made
