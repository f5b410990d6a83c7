"""The registered model: found in BentoML's model store, verified, and turned into a scorer.

What is served is the portable form beside BentoML's pickles (``churn_serving.model.portable``).
Nothing is believed but its manifest, and nothing is unpickled, unless that was allowed on purpose.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer

from churn_serving.errors import (
    ModelCorruptedError,
    ModelError,
    ModelForeignError,
    ModelMismatchError,
    ModelNotFoundError,
    ModelPickledError,
    ModelStoreError,
    ModelUntrustedError,
)
from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.model import portable
from churn_serving.model.aliases import CHAMPION, LATEST, read_aliases
from churn_serving.model.portable import ARRAYS, MANIFEST, SIGNATURE, Manifest, Members
from churn_serving.model.reasons.section import NAME as REASONS
from churn_serving.model.reasons.section import read_reasons
from churn_serving.model.scoring import EstimatorScorer, make_scorer, verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from churn_serving.model.aliases import Aliases
    from churn_serving.model.reasons.section import Reasons
    from churn_serving.model.scoring import Scorer
    from churn_serving.model.signature import PublicKey

__all__ = [
    "MODEL_NAME",
    "PICKLE",
    "TRAIN",
    "Artifact",
    "RegisteredModel",
    "Trust",
    "aliases_of",
    "check_model",
    "find_model",
    "load",
    "load_artifact",
    "load_from",
    "models_folder",
    "resolve",
]

MODEL_NAME: Final = "churn_classifier"
PICKLE: Final = "saved_model.pkl"
"""BentoML's name for the estimator's pickle."""
TRAIN: Final = "train a new model with: python train_and_save.py"

_MODEL_YAML: Final = "model.yaml"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a process believes.

    Attributes:
        public_key: A model must be signed with its private half. None: no signature is asked for.
        allow_pickle: Whether a model may be unpickled that has no portable form.
    """

    public_key: PublicKey | None = None
    allow_pickle: bool = False

    @classmethod
    def of(cls, public_key_file: Path | None, *, allow_pickle: bool) -> Trust:
        """Return whom a process believes that was given this key file.

        Raises:
            SettingsError: The file holds no public key.
        """
        if public_key_file is None:
            return cls(allow_pickle=allow_pickle)
        # Imported late: only who asks for signatures needs the library.
        from churn_serving.model.signature import read_public_key  # noqa: PLC0415

        return cls(public_key=read_public_key(public_key_file), allow_pickle=allow_pickle)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel:
    """What the model store knows of an intact model.

    Attributes:
        manifest: Everything that is served or shown of it.
        folder: Where its files are.
        sha256: Checksum of the manifest, which has those of the other files.
    """

    manifest: Manifest
    folder: Path
    sha256: str

    @property
    def tag(self) -> str:
        """``name:version`` in the model store."""
        return self.manifest.tag

    @property
    def version(self) -> str:
        """The part of the tag after the name."""
        return self.tag.partition(":")[2]

    @property
    def threshold(self) -> float:
        """Probabilities from here on are predicted as churn."""
        return self.manifest.threshold

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Everything that was measured when it was trained."""
        return self.manifest.metadata

    @property
    def is_pickled(self) -> bool:
        """Whether only scikit-learn can run it."""
        return not isinstance(self.manifest.model, Members)

    @property
    def has_reasons(self) -> bool:
        """Whether it was registered with what explains its answers."""
        return REASONS in self.manifest.sections


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact(RegisteredModel):
    """A registered model, verified and loaded.

    Attributes:
        scorer: Scores with it.
        size: Bytes of what it was made from.
        reasons: Explains what it scores. None: nothing was registered for that.
    """

    scorer: Scorer
    size: int
    reasons: Reasons | None = None


def find_model(tag: str, trust: Trust = Trust()) -> RegisteredModel:
    """Find an intact model in the store: its signature, its checksums, its columns.

    Args:
        tag: As ``resolve`` reads it.
        trust: Whose models are taken.

    Raises:
        ModelError: The store has no such model, or none that can be served; see its kinds.
    """
    return _intact(*_folder(tag), trust)


def _intact(folder: Path, tag: str, trust: Trust) -> RegisteredModel:
    model = _registered(folder, tag, trust)
    try:
        for name, recorded in model.manifest.files.items():
            portable.check_file(model.folder / name, recorded)
    except ValueError as error:
        raise _refusal(model.tag, error) from None
    except OSError as error:
        raise _unreadable(error) from error
    return model


def load_artifact(tag: str, trust: Trust = Trust()) -> Artifact:
    """Verify and load a registered model; it has answered its golden rows rightly.

    Raises:
        ModelError: The store has no such model, or none that can be served; see its kinds.
    """
    return load(find_model(tag, trust))


def load_from(folder: Path, tag: str, trust: Trust = Trust()) -> Artifact:
    """Verify and load a model whose files are in a folder, in the store or not yet.

    Args:
        folder: Where its files are.
        tag: ``name:version``, which its manifest must say, too.
        trust: Whose models are taken.

    Raises:
        ModelError: It cannot be served; see its kinds.
    """
    return load(_intact(folder, tag, trust))


def load(model: RegisteredModel) -> Artifact:
    """Load a model that was found: what it is made from must still be what its manifest says.

    Raises:
        ModelError: It is not, or it answers its golden rows wrongly.
    """
    manifest = model.manifest
    try:
        content = portable.read_recorded(model.folder, ARRAYS, manifest.files)
        arrays = portable.checked_arrays(content, manifest.model, len(COLUMN_NAMES))
        if isinstance(manifest.model, Members):
            scorer: Scorer = make_scorer(manifest.model, arrays, len(COLUMN_NAMES))
        else:
            content = portable.read_recorded(model.folder, PICKLE, manifest.files)
            scorer = _unpickled(content)
        verify(scorer, manifest.model, arrays)
        reasons = read_reasons(manifest.sections, arrays, manifest.model, scorer)
    except ValueError as error:
        raise _refusal(model.tag, error) from None
    except OSError as error:
        raise _unreadable(error) from error
    return Artifact(
        manifest=manifest,
        folder=model.folder,
        sha256=model.sha256,
        scorer=scorer,
        size=len(content),
        reasons=reasons,
    )


def check_model(tag: str, trust: Trust = Trust()) -> RegisteredModel:
    """Find a model that can be served, by loading it once.

    A model that is unpickled is only found: scikit-learn would stay in this process's memory.

    Raises:
        ModelError: The store has no such model, or none that can be served; see its kinds.
    """
    model = find_model(tag, trust)
    return model if model.is_pickled else load(model)


def models_folder() -> Path:
    """Return the folder of BentoML's store that holds a folder for each name of a model."""
    return Path(BentoMLContainer.model_store_dir.get())


def aliases_of(name: str) -> Aliases:
    """Return what the aliases of a name mean.

    Raises:
        ModelCorruptedError: What says it is damaged.
        ModelStoreError: The store cannot be read.
    """
    try:
        return read_aliases(models_folder() / name)
    except OSError as error:
        raise _unreadable(error) from error


def resolve(tag: str) -> str:
    """Return the tag with a version, or with ``latest``.

    ``name:version`` is that version and ``name:latest`` the one that was saved last.
    ``name:champion`` is the one that was promoted, and so is ``name``; if none was, ``name`` is the
    latest. Inside a built Bento each of them but the first means the Bento's model.

    Raises:
        ModelNotFoundError: No version of the name was ever promoted.
        ModelCorruptedError: What says which one was is damaged.
        ModelStoreError: The store cannot be read.
    """
    name, _, version = tag.partition(":")
    if version not in {"", CHAMPION, LATEST}:
        return tag
    if (packed := _packed(name)) is not None:
        return packed
    if version != LATEST:
        champion = aliases_of(name).champion
        if champion is not None:
            return f"{name}:{champion}"
        if version == CHAMPION:
            raise ModelNotFoundError(
                f"No version of '{name}' was promoted to be its champion; promote one with: "
                f"churn model promote {name}:VERSION"
            )
    return f"{name}:{LATEST}"


def _packed(name: str) -> str | None:
    """Return the tag of the model that this Bento was built with, if the name means it."""
    for alias, packed in BentoMLContainer.model_aliases.get().items():
        theirs, _, version = str(packed).partition(":")
        # In the project's folder, bentofile.yaml itself is read: it names no version.
        if version not in {"", LATEST} and name in {alias.partition(":")[0], theirs}:
            return str(packed)
    return None


def _registered(folder: Path, tag: str, trust: Trust) -> RegisteredModel:
    try:
        content = portable.read_file(folder / MANIFEST)
    except FileNotFoundError:
        raise _without_manifest(folder, tag) from None
    except ValueError as error:
        raise _refusal(tag, error) from None
    except OSError as error:
        raise _unreadable(error) from error
    if trust.public_key is not None:
        _require_signature(tag, content, folder, trust.public_key)
    try:
        manifest = portable.parse_manifest(content)
    except ValueError as error:
        raise _refusal(tag, error) from None
    if manifest.tag != tag:
        raise ModelUntrustedError(
            f"The manifest of the model '{tag}' is that of another one, "
            f"'{manifest.tag[:80]}'; {TRAIN}"
        )
    _require_our_columns(tag, manifest.columns)
    model = RegisteredModel(
        manifest=manifest, folder=folder, sha256=hashlib.sha256(content).hexdigest()
    )
    if model.is_pickled and not trust.allow_pickle:
        raise ModelPickledError(
            f"The model '{tag}' can only be run by unpickling it, which lets its file run code; "
            "allow that with CHURN_ALLOW_PICKLE=true where scikit-learn is installed, or register "
            "a kind of model that can be compiled (churn model register --help)"
        )
    if model.is_pickled and find_spec("sklearn") is None:
        raise ModelPickledError(
            f"The model '{tag}' needs scikit-learn, which is not installed here; "
            "build the image with: make image SKLEARN=1"
        )
    return model


def _folder(tag: str) -> tuple[Path, str]:
    """Return where the files of a model are, and its full tag."""
    resolved = resolve(tag)
    try:
        model = bentoml.models.get(resolved)
    except bentoml.exceptions.NotFound:
        raise _not_found(tag, resolved) from None
    except OSError as error:
        raise _unreadable(error) from error
    # BentoML reads its model.yaml without looking what it is, so this can be any exception.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise ModelCorruptedError(
            f"The model '{tag}' is not as it was registered ({reason}); {TRAIN}"
        ) from error
    folder, its_tag = Path(model.path), str(model.tag)
    # BentoML believes the tag in model.yaml, which is not signed; what was looked up is the folder.
    place = f"{folder.parent.name}:{folder.name}"
    if place != its_tag:
        raise ModelUntrustedError(
            f"In the place of the model '{place}' the store has another one, '{its_tag[:80]}'; "
            f"{TRAIN}"
        )
    # BentoML takes the beginning of a version for it: right for a person, not for an alias.
    if resolved not in {tag, f"{model.tag.name}:{LATEST}", its_tag}:
        raise _not_found(tag, resolved)
    return folder, its_tag


def _not_found(tag: str, resolved: str) -> ModelNotFoundError:
    if resolved in {tag, f"{tag}:{LATEST}"}:
        return ModelNotFoundError(
            f"The model store has no model '{tag}'; train one with: python train_and_save.py"
        )
    return ModelNotFoundError(
        f"The model store no longer has '{resolved}', which '{tag}' means; promote another version "
        "with: churn model promote TAG"
    )


def _unreadable(error: OSError) -> ModelStoreError:
    return ModelStoreError(
        f"The model store cannot be read ({error.strerror}: {error.filename}); "
        "is BENTOML_HOME a folder of this user?"
    )


def _refusal(tag: str, reason: ValueError) -> ModelCorruptedError:
    return ModelCorruptedError(f"The model '{tag}' cannot be served: {reason}; {TRAIN}")


def _without_manifest(folder: Path, tag: str) -> ModelError:
    """Say why a model has no portable form: version 0.1 registered none, and strangers do not."""
    if any(os.path.lexists(folder / name) for name in (MANIFEST, ARRAYS)):
        return ModelCorruptedError(
            f"The model '{tag}' cannot be served: the file {MANIFEST} is gone, or is no file; "
            f"{TRAIN}"
        )
    with (folder / _MODEL_YAML).open(encoding="utf-8") as file:
        ours = "decision_threshold" in file.read()
    if ours:
        return ModelForeignError(
            f"The model '{tag}' was registered by version 0.1, as a pickle, which is not served "
            f"any more; convert it with: churn model convert {tag}"
        )
    return ModelForeignError(
        f"The model '{tag}' was saved by something else, without the portable form that serving "
        "needs; register one with: python train_and_save.py"
    )


def _require_signature(tag: str, manifest: bytes, folder: Path, key: PublicKey) -> None:
    # Imported late: only who asks for signatures needs the library.
    from churn_serving.model import signature  # noqa: PLC0415

    try:
        signed = portable.read_file(folder / SIGNATURE)
    except FileNotFoundError:
        raise ModelUntrustedError(
            f"The model '{tag}' is not signed, but only signed models are to be served; "
            f"sign it with: churn model sign {tag} --key FILE"
        ) from None
    except ValueError:
        signed = b""
    except OSError as error:
        raise _unreadable(error) from error
    try:
        signature.verify(key, manifest, signed)
    except ModelUntrustedError:
        raise ModelUntrustedError(
            f"The model '{tag}' is not as it was signed, or was signed with another key than "
            f"{signature.fingerprint(key)}"
        ) from None


def _require_our_columns(tag: str, theirs: tuple[str, ...]) -> None:
    """Refuse a model that would read a number of the row as another one than it is."""
    if theirs == COLUMN_NAMES:
        return
    new = _quoted(name for name in COLUMN_NAMES if name not in theirs)
    gone = _quoted(name[:80] for name in theirs if name not in COLUMN_NAMES)
    reasons = [*([f"does not know {new}"] if new else []), *([f"needs {gone}"] if gone else [])]
    if not reasons:
        their, our = next(pair for pair in zip_longest(theirs, COLUMN_NAMES) if len({*pair}) > 1)
        reasons = [f"has '{their}' where '{our}' is now"]
    raise ModelMismatchError(
        f"The model '{tag}' was trained with other columns than this code makes: "
        f"it {' and '.join(reasons)}; {TRAIN}"
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _unpickled(content: bytes) -> EstimatorScorer:
    """Unpickle an estimator: its file can run any code."""
    import joblib  # noqa: PLC0415 - it comes with scikit-learn, which only this needs

    # Unpickling can raise anything: above all, a module may be missing here.
    try:
        return EstimatorScorer(joblib.load(io.BytesIO(content)).predict_proba)
    except Exception as error:  # noqa: BLE001 - see above
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise ValueError(
            f"its pickle cannot be read by what is installed here ({reason})"
        ) from None
