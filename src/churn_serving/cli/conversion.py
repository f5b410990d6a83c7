"""Models of version 0.1, which were pickles, made portable."""

from __future__ import annotations

import hashlib
import io
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import joblib
import yaml
from sklearn.pipeline import Pipeline

from churn_serving.cli.registration import measured_on, one_warning_of_versions, say_registered
from churn_serving.cli.store import find_entry
from churn_serving.cli.terminal import note, say
from churn_serving.errors import ModelCorruptedError, ModelForeignError, ModelMismatchError
from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.learning.compile import reference_probabilities
from churn_serving.learning.registration import SCALER, save_artifact
from churn_serving.model.portable import MANIFEST
from churn_serving.model.signature import read_private_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["convert_model"]

_MODEL_YAML: Final = "model.yaml"
_ESTIMATOR: Final = "saved_model.pkl"
_CUSTOM_OBJECTS: Final = "custom_objects.pkl"
_CHECKSUMS: Final = {_ESTIMATOR: "model_sha256", _CUSTOM_OBJECTS: "scaler_sha256"}
"""Under which name of the metadata the sha256 of a file stands."""

_THRESHOLD: Final = "decision_threshold"


def convert_model(tag: str, data: Path | None, sign_key: Path | None) -> None:
    """Register a model of version 0.1 anew, under the same name.

    Its figures are kept, and when, from which commit and with which libraries it was trained. A
    table adds figures of its own.

    Raises:
        SettingsError: The key file holds no private key.
        DataError: The table was refused.
        ModelError: The store has no such model, or none of version 0.1 that is intact.
        OSError: A file cannot be read, or the store cannot be written.
    """
    if sign_key is not None:
        read_private_key(sign_key)  # before anything is unpickled
    entry = find_entry(tag)
    if (entry.folder / MANIFEST).exists():
        say(f"{entry.tag} is portable already; there is nothing to convert.")
        return
    info = _info(entry.tag, entry.folder)
    metadata = info["metadata"]
    estimator, scaler = _unpickled(entry.tag, entry.folder, metadata)
    model = Pipeline([(SCALER, scaler), ("classifier", estimator)])
    threshold = float(metadata[_THRESHOLD])
    measured = {key: value for key, value in metadata.items() if key not in _CHECKSUMS.values()}
    background = None
    if data is not None:
        _, figures, background = measured_on(
            data, partial(reference_probabilities, model), threshold
        )
        measured["measured"] = {"data": figures["data"], **figures["measured"]}
    new = save_artifact(
        estimator=model,
        scaler=scaler,
        threshold=threshold,
        measured={**measured, "converted_from": entry.tag},
        name=entry.tag.partition(":")[0],
        labels=info.get("labels"),
        sign_key=sign_key,
        background=background,
    )
    say(f"Converted {entry.tag}, which stays as it is.")
    if not entry.is_latest:
        note(f"{new} is what {new.partition(':')[0]}:latest means now, though it is an older model")
    say_registered(new)


def _info(tag: str, folder: Path) -> dict[str, Any]:
    """Return what BentoML has recorded of a model that version 0.1 registered."""
    try:
        info = yaml.safe_load((folder / _MODEL_YAML).read_bytes())
        metadata = info["metadata"]
        ours = {_THRESHOLD, *_CHECKSUMS.values()} <= set(metadata)
    except (yaml.YAMLError, FileNotFoundError, TypeError, KeyError):
        raise ModelCorruptedError(
            f"The {_MODEL_YAML} of the model '{tag}' is not as it was registered."
        ) from None
    if not ours:
        raise ModelForeignError(
            f"The model '{tag}' was not registered by version 0.1; register the file of its "
            "estimator with: churn model register FILE"
        )
    if tuple(metadata.get("column_names", ())) != COLUMN_NAMES:
        raise ModelMismatchError(
            f"The model '{tag}' was trained with other columns than this code makes; train a new "
            "one with: python train_and_save.py"
        )
    return dict(info)


def _unpickled(tag: str, folder: Path, metadata: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the estimator and its scaler, from the very bytes whose checksums were compared."""
    content = {}
    for file, key in _CHECKSUMS.items():
        path = folder / file
        content[file] = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content[file]).hexdigest() != metadata[key]:
            raise ModelCorruptedError(
                f"The file {file} of model '{tag}' is not the one that was registered."
            )
    note(f"converting {tag} runs code in its pickle; only convert models that you trust")
    try:
        with one_warning_of_versions():
            estimator = joblib.load(io.BytesIO(content[_ESTIMATOR]))
            objects = pickle.loads(content[_CUSTOM_OBJECTS])  # noqa: S301 - the user was told
        return estimator, objects[SCALER]
    # Unpickling can raise anything: above all, classes may have moved since.
    except Exception as error:  # noqa: BLE001 - see above
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise ModelCorruptedError(
            f"The pickle of model '{tag}' cannot be read by what is installed here ({reason}); "
            "train a new model with: python train_and_save.py"
        ) from None
