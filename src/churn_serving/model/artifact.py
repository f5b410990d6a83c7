"""The registered model: how it is saved to BentoML's model store, found again and verified.

Estimator and scaler are saved together by ``bentoml.sklearn.save_model`` (the scaler as a custom
object) with metadata that was measured, checksums of both files among it. The checksums are
verified before anything is unpickled.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import bentoml
import cloudpickle
import joblib
import yaml

from churn_serving.errors import (
    ModelCorruptedError,
    ModelForeignError,
    ModelMismatchError,
    ModelNotFoundError,
    ModelStoreError,
)
from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.revision import git_commit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "MODEL_NAME",
    "Artifact",
    "RegisteredModel",
    "find_model",
    "load_artifact",
    "save_artifact",
    "version_warning",
]

MODEL_NAME: Final = "churn_classifier"
SCALER: Final = "scaler"
TASK: Final = "binary classification: P(customer leaves)"

_CHECKSUMS: Final = {
    # Where BentoML puts the two pickles, and under which metadata key their sha256 stands.
    "saved_model.pkl": "model_sha256",
    "custom_objects.pkl": "scaler_sha256",
}
_LIBRARIES: Final = ("bentoml", "joblib", "numpy", "scikit-learn", "scipy")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel:
    """What the model store knows of an intact model.

    Attributes:
        tag: ``name:version`` in the model store.
        threshold: Probabilities from here on are predicted as churn.
        metadata: Everything that was measured when it was trained.
    """

    tag: str
    threshold: float
    metadata: Mapping[str, Any]

    @property
    def version(self) -> str:
        """The part of the tag after the name."""
        return self.tag.partition(":")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact(RegisteredModel):
    """A registered model, verified and loaded.

    Attributes:
        estimator: The fitted classifier; it sees scaled features.
        scaler: The fitted scaler.
    """

    estimator: Any
    scaler: Any


def save_artifact(
    *,
    estimator: Any,  # noqa: ANN401 - any scikit-learn classifier
    scaler: Any,  # noqa: ANN401 - any scikit-learn transformer
    threshold: float,
    measured: Mapping[str, Any],
    name: str = MODEL_NAME,
    labels: Mapping[str, str] | None = None,
) -> str:
    """Register the model and return its tag.

    A failure or an interruption registers nothing.

    Raises:
        ModelCorruptedError: The files did not reach the disk as they were written.
        OSError: The disk is full or cannot be written.
    """
    metadata = {
        "task": TASK,
        "framework": "scikit-learn",
        "estimator": type(estimator).__name__,
        "python_version": platform.python_version(),
        "library_versions": {lib: importlib.metadata.version(lib) for lib in _LIBRARIES},
        "git_commit": git_commit(),
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "feature_names": list(FEATURE_NAMES),
        "column_names": list(COLUMN_NAMES),
        "decision_threshold": threshold,
        **measured,
        **_expected_checksums(estimator, {SCALER: scaler}),
    }
    signature = {"batchable": True, "batch_dim": 0}
    tag = bentoml.Tag.from_str(name).make_new_version()
    try:
        model = bentoml.sklearn.save_model(
            tag,
            estimator,
            signatures={"predict": signature, "predict_proba": signature},
            labels=dict(labels or {}),
            custom_objects={SCALER: scaler},
            metadata=metadata,
        )
        _verify(model)
    # BentoML copies file by file into the store, and leaves half a model there on Ctrl-C.
    except BaseException:
        _discard(tag)
        raise
    return str(tag)


def find_model(tag: str) -> RegisteredModel:
    """Find an intact model in the store; nothing is unpickled.

    Inside a built Bento, ``name:latest`` is an alias of the version the Bento was built with.

    Raises:
        ModelError: The store has no such model, or none that can be served; see its kinds.
    """
    return RegisteredModel(**_facts(_intact_model(tag)))


def load_artifact(tag: str) -> Artifact:
    """Verify and load a registered model.

    Raises:
        ModelError: The store has no such model, or none that can be served; see its kinds.
    """
    model = _intact_model(tag)
    # Imported late: whoever only looks for a model need not wait a second for scikit-learn.
    from sklearn.exceptions import InconsistentVersionWarning  # noqa: PLC0415

    with warnings.catch_warnings():
        # ``version_warning`` says the same in one sentence instead of one per object.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        estimator = bentoml.sklearn.load_model(model)
        scaler = model.custom_objects[SCALER]
    return Artifact(**_facts(model), estimator=estimator, scaler=scaler)


def version_warning(model: RegisteredModel) -> str | None:
    """Return a sentence if the model was trained with another scikit-learn, else None."""
    trained = model.metadata["library_versions"]["scikit-learn"]
    installed = importlib.metadata.version("scikit-learn")
    if trained == installed:
        return None
    return (
        f"Model '{model.tag}' was trained with scikit-learn {trained} but {installed} is "
        "installed; retrain it with: python train_and_save.py"
    )


def _intact_model(tag: str) -> bentoml.Model:
    try:
        model = bentoml.models.get(tag)
    except bentoml.exceptions.NotFound:
        raise ModelNotFoundError(
            f"The model store has no model '{tag}'; train one with: python train_and_save.py"
        ) from None
    except (bentoml.exceptions.BentoMLException, yaml.YAMLError) as error:
        raise ModelCorruptedError(
            f"The model '{tag}' is not as it was registered ({error}); "
            "train a new model with: python train_and_save.py"
        ) from error
    except OSError as error:
        raise ModelStoreError(
            f"The model store cannot be read ({error.strerror}: {error.filename}); "
            "is BENTOML_HOME a folder of this user?"
        ) from error
    if "decision_threshold" not in model.info.metadata:
        raise ModelForeignError(
            f"The model '{model.tag}' was saved by something else, without the threshold and the "
            "checksums that serving needs; register one with: python train_and_save.py"
        )
    _verify(model)
    _require_our_columns(model)
    return model


def _discard(tag: bentoml.Tag) -> None:
    """Remove what a save that did not end well left in the store."""
    with suppress(bentoml.exceptions.NotFound):  # nothing was copied yet
        bentoml.models.delete(tag)


def _facts(model: bentoml.Model) -> dict[str, Any]:
    metadata: dict[str, Any] = dict(model.info.metadata)
    return {
        "tag": str(model.tag),
        "threshold": float(metadata["decision_threshold"]),
        "metadata": metadata,
    }


def _verify(model: bentoml.Model) -> None:
    for file, key in _CHECKSUMS.items():
        path = Path(model.path_of(file))
        if not path.is_file() or _sha256(path) != model.info.metadata.get(key):
            raise ModelCorruptedError(
                f"The file {file} of model '{model.tag}' is not the one that was registered; "
                "train a new model with: python train_and_save.py"
            )


def _require_our_columns(model: bentoml.Model) -> None:
    """Refuse a model that would read a number of the row as another one than it is."""
    metadata: dict[str, Any] = dict(model.info.metadata)
    theirs = tuple(metadata.get("column_names", ()))
    if theirs == COLUMN_NAMES:
        return
    new = _quoted(name for name in COLUMN_NAMES if name not in theirs)
    gone = _quoted(name for name in theirs if name not in COLUMN_NAMES)
    reasons = [*([f"does not know {new}"] if new else []), *([f"needs {gone}"] if gone else [])]
    if not reasons:
        their, our = next(pair for pair in zip_longest(theirs, COLUMN_NAMES) if len({*pair}) > 1)
        reasons = [f"has '{their}' where '{our}' is now"]
    raise ModelMismatchError(
        f"The model '{model.tag}' was trained with other columns than this code makes: "
        f"it {' and '.join(reasons)}; train a new model with: python train_and_save.py"
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _expected_checksums(estimator: object, custom_objects: dict[str, object]) -> dict[str, str]:
    """Pickle as the store will, in a scratch folder, to know the checksums before saving."""
    with tempfile.TemporaryDirectory() as folder:
        model, objects = (Path(folder, name) for name in _CHECKSUMS)
        joblib.dump(estimator, model)
        objects.write_bytes(cloudpickle.dumps(custom_objects))
        return {_CHECKSUMS[path.name]: _sha256(path) for path in (model, objects)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
