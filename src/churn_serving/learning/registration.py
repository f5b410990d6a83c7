"""Registering a model: compiled to its portable form, and kept in BentoML's model store.

BentoML's own pickles stay beside the portable form, so that ``bentoml.sklearn.load_model`` returns
the fitted Pipeline in a notebook. Serving never reads them.
"""

from __future__ import annotations

import importlib.metadata
import io
import platform
import secrets
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import bentoml
import cloudpickle
import joblib
import numpy as np
from bentoml.types import ModelSignature

from churn_serving.errors import ModelStoreError, UnsupportedEstimatorError
from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.features.rows import verification_matrix
from churn_serving.learning.card.page import Subject, make_card
from churn_serving.learning.compile import (
    Compiled,
    compile_booster,
    compile_model,
    reference_probabilities,
)
from churn_serving.learning.explaining import explain
from churn_serving.model import signature
from churn_serving.model.aliases import LATEST, locked, replace_file
from churn_serving.model.artifact import (
    MODEL_NAME,
    PICKLE,
    Trust,
    load_from,
    models_folder,
)
from churn_serving.model.card import CARD
from churn_serving.model.npz import write_arrays
from churn_serving.model.portable import (
    ARRAYS,
    GOLDEN_ROWS,
    MANIFEST,
    SIGNATURE,
    Manifest,
    Pickled,
    describe,
)
from churn_serving.model.reasons.section import NAME as REASONS
from churn_serving.revision import git_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from churn_serving.features.columns import FloatArray

__all__ = ["SCALER", "require_writable_store", "save_artifact", "save_booster"]

SCALER: Final = "scaler"
"""Under which name the scaler is a custom object of BentoML's model."""

TASK: Final = "binary classification: P(customer leaves)"

_CUSTOM_OBJECTS: Final = "custom_objects.pkl"
_SHOWN: Final = ("task", "framework", "estimator", "trained_at", "decision_threshold")
_LIBRARIES: Final = ("bentoml", "joblib", "numpy", "scikit-learn", "scipy")

_UNFINISHED: Final = "saving-"
"""How the folder begins in which a model is built, outside of the store."""

_FORGOTTEN_SECONDS: Final = 3600
"""No save takes so long: whoever began it was killed."""


class _Framework(NamedTuple):
    """How BentoML knows what it can load a model with."""

    name: str
    library: str
    file: str
    api_version: str

    @property
    def module(self) -> str:
        return f"bentoml.{self.name}"


_SKLEARN: Final = _Framework("sklearn", "scikit-learn", PICKLE, "v1")
_BOOSTERS: Final = {
    "xgboost": _Framework("xgboost", "xgboost", "saved_model.ubj", "v1"),
    "lightgbm": _Framework("lightgbm", "lightgbm", "saved_model.ubj", "v1"),
}


def save_artifact(
    *,
    estimator: Any,  # noqa: ANN401 - any scikit-learn classifier
    threshold: float,
    measured: Mapping[str, Any],
    scaler: Any = None,  # noqa: ANN401 - any scikit-learn transformer
    name: str = MODEL_NAME,
    labels: Mapping[str, str] | None = None,
    sign_key: Path | None = None,
    allow_pickle: bool = False,
    attachments: Mapping[str, bytes] | None = None,
    background: FloatArray | None = None,
) -> str:
    """Compile and register an estimator, and return its tag.

    A failure or an interruption registers nothing.

    Args:
        estimator: A fitted classifier of unscaled rows: as a rule a Pipeline.
        threshold: Probabilities from here on are predicted as churn.
        measured: What is to be known of it; JSON.
        scaler: What of it scales, kept as a custom object.
        name: In the model store.
        labels: Kept with the model.
        sign_key: A file with the private key that signs it.
        allow_pickle: Whether an estimator that cannot be compiled is registered all the same, to
            be served by scikit-learn where that is allowed.
        attachments: Further files of the model, by their names: what is for people to look at.
        background: Customers that a customer is compared with in reasons, unscaled rows drawn by
            lot. None: the model gives no reasons.

    Raises:
        UnsupportedEstimatorError: It cannot be compiled; the sentence lists what can.
        ModelCorruptedError: The files did not reach the disk as they were written, or the compiled
            model answers otherwise than the estimator.
        OSError: The disk is full or cannot be written.
    """
    try:
        compiled: Compiled | None = compile_model(estimator)
    except UnsupportedEstimatorError:
        if not allow_pickle:
            raise
        compiled = None
    return _register(
        compiled,
        lambda X: reference_probabilities(estimator, X),
        framework=_SKLEARN,
        version=importlib.metadata.version("scikit-learn"),
        content=_pickled(estimator),
        custom_objects={} if scaler is None else {SCALER: scaler},
        named=compiled.steps[-1] if compiled else type(estimator).__name__,
        threshold=threshold,
        measured=measured,
        name=name,
        labels=labels,
        sign_key=sign_key,
        attachments=attachments,
        background=background,
    )


def save_booster(
    *,
    path: Path,
    threshold: float,
    measured: Mapping[str, Any],
    preprocess: Path | None = None,
    name: str = MODEL_NAME,
    labels: Mapping[str, str] | None = None,
    sign_key: Path | None = None,
    background: FloatArray | None = None,
) -> str:
    """Compile and register a model file of XGBoost or LightGBM, and return its tag.

    A failure or an interruption registers nothing.

    Args:
        path: The file, as the library itself has saved it.
        threshold: Probabilities from here on are predicted as churn.
        measured: What is to be known of it; JSON.
        preprocess: A file that says what the booster sees of a customer; see ``booster_inputs``.
        name: In the model store.
        labels: Kept with the model.
        sign_key: A file with the private key that signs it.
        background: As for ``save_artifact``.

    Raises:
        UnsupportedEstimatorError: It is no such file, or a kind that cannot be compiled.
        ModelCorruptedError: As for ``save_artifact``.
        OSError: The disk is full or cannot be written.
    """
    compiled, reference, booster = compile_booster(path, preprocess)
    return _register(
        compiled,
        reference,
        framework=_BOOSTERS[booster.library],
        version=booster.version,
        content=booster.content,
        custom_objects={},
        named=booster.name,
        threshold=threshold,
        measured=measured,
        name=name,
        labels=labels,
        sign_key=sign_key,
        background=background,
    )


def _register(
    compiled: Compiled | None,
    reference: Callable[[FloatArray], FloatArray],
    *,
    framework: _Framework,
    version: str,
    content: bytes,
    custom_objects: dict[str, Any],
    named: str,
    threshold: float,
    measured: Mapping[str, Any],
    name: str,
    labels: Mapping[str, str] | None,
    sign_key: Path | None,
    background: FloatArray | None,
    attachments: Mapping[str, bytes] | None = None,
) -> str:
    # Before anything is written: a wrong key registers nothing.
    private_key = None if sign_key is None else signature.read_private_key(sign_key)
    tag = bentoml.Tag.from_str(name).make_new_version()
    described = compiled.model if compiled else Pickled()
    own = compiled.arrays if compiled else {}
    explained = None if background is None else explain(described, own, reference, background)
    golden = verification_matrix(GOLDEN_ROWS)
    arrays = write_arrays(
        {
            **own,
            **(explained.arrays if explained else {}),
            "golden/X": golden,
            "golden/p": np.asarray(reference(golden), dtype=np.float64),
        }
    )
    metadata = {
        "task": TASK,
        "framework": framework.library,
        "estimator": named,
        "steps": list(compiled.steps) if compiled else [named],
        "python_version": platform.python_version(),
        "library_versions": {
            **{library: importlib.metadata.version(library) for library in _LIBRARIES},
            framework.library: version,
        },
        "git_commit": git_commit(),
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "feature_names": list(FEATURE_NAMES),
        "column_names": list(COLUMN_NAMES),
        "decision_threshold": threshold,
        **measured,
    }
    labels = dict(labels or {})
    card = make_card(
        Subject(
            tag=str(tag),
            threshold=threshold,
            metadata=metadata,
            labels=labels,
            signed_by=(
                None
                if private_key is None
                else signature.fingerprint(signature.public_key_of(private_key))
            ),
        )
    )
    batchable = ModelSignature(batchable=True, batch_dim=(0, 0))
    methods = ("predict", "predict_proba") if framework is _SKLEARN else ("predict",)
    model = bentoml.Model.create(
        tag,
        module=framework.module,
        api_version=framework.api_version,
        signatures=dict.fromkeys(methods, batchable),
        labels=labels,
        custom_objects=custom_objects,
        # Every process of a service reads BentoML's own file, too, and believes nothing in it.
        metadata={key: metadata[key] for key in _SHOWN},
        context=bentoml.models.ModelContext(
            framework_name=framework.name,
            framework_versions={framework.library: version},
        ),
    )
    files = {framework.file: content, ARRAYS: arrays, CARD: card, **(attachments or {})}
    if custom_objects:  # as BentoML writes them, below
        files[_CUSTOM_OBJECTS] = cloudpickle.dumps(custom_objects)
    manifest = Manifest(
        tag=str(tag),
        threshold=threshold,
        columns=COLUMN_NAMES,
        files={file: describe(each) for file, each in files.items()},
        model=described,
        labels=labels,
        metadata=metadata | _checksums(files),
        sections={} if explained is None else {REASONS: explained.section.model_dump(mode="json")},
    )
    written = files | {MANIFEST: manifest.model_dump_json(indent=1).encode()}
    if private_key is not None:
        written[SIGNATURE] = signature.sign(private_key, written[MANIFEST])
    _write(Path(model.path), written)
    model.flush()  # type: ignore[no-untyped-call]  # BentoML gives it no type
    with _unfinished() as folder:
        shutil.copytree(model.path, folder, dirs_exist_ok=True)
        load_from(folder, str(tag), Trust(allow_pickle=True))
        _publish(folder, tag)
    return str(tag)


def require_writable_store(name: str = MODEL_NAME) -> None:
    """Find out whether a model of this name could be saved, before it is trained.

    Raises:
        ModelStoreError: It could not; the sentence says why.
    """
    try:
        models = models_folder()
        models.mkdir(parents=True, exist_ok=True)
        for folder in (models, models / name):
            if folder.exists():
                with tempfile.TemporaryFile(dir=folder) as file:
                    file.write(b"?")
        with _unfinished():
            pass
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.filename else error
        raise ModelStoreError(
            f"The model store cannot be written ({reason}); "
            "is BENTOML_HOME a folder of this user, and is there room?"
        ) from error


@contextmanager
def _unfinished() -> Iterator[Path]:
    """Lend a folder on the store's file system in which nobody looks for models."""
    models = models_folder()
    models.mkdir(parents=True, exist_ok=True)
    home = models.resolve().parent
    if not _same_file_system(home, models):
        home = models  # BentoML finds no version in the new folder, since it holds no folder
    for left in home.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):  # somebody else's sweep was quicker
            if time.time() - left.stat().st_mtime > _FORGOTTEN_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    folder = home / f"{_UNFINISHED}{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _same_file_system(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def _publish(folder: Path, tag: bentoml.Tag) -> None:
    """Put a finished model into the store, where it appears as a whole, and make it the latest."""
    versions = models_folder() / tag.name
    version = str(tag.version)
    versions.mkdir(exist_ok=True)
    with locked(versions):
        folder.rename(versions / version)
        try:
            replace_file(versions / LATEST, version.encode())
        except BaseException:
            (versions / version).rename(folder)
            raise


def _pickled(estimator: object) -> bytes:
    """Return what ``bentoml.sklearn.load_model`` reads."""
    file = io.BytesIO()
    joblib.dump(estimator, file)
    return file.getvalue()


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _checksums(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the checksums of the pickles under the names that ``/metrics/model`` has for them."""
    return {
        key: describe(files[file]).sha256
        for file, key in ((PICKLE, "model_sha256"), (_CUSTOM_OBJECTS, "scaler_sha256"))
        if file in files
    }
