"""What is known of the models in the store, and whether they can be served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from churn_serving.cli.store import entries
from churn_serving.cli.terminal import TITLES, facts, say, say_json, table
from churn_serving.errors import (
    ModelCorruptedError,
    ModelError,
    ModelForeignError,
    ModelMismatchError,
    ModelUntrustedError,
)
from churn_serving.model import signature
from churn_serving.model.artifact import Trust, find_model, load_artifact
from churn_serving.model.portable import GOLDEN_ROWS, SIGNATURE, Members

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from churn_serving.cli.store import Entry
    from churn_serving.model.artifact import RegisteredModel
    from churn_serving.model.portable import Manifest
    from churn_serving.model.signature import PublicKey

__all__ = ["list_models", "show_model", "verify_model"]

_STATES: Final = {
    ModelCorruptedError: "damaged",
    ModelForeignError: "not portable",
    ModelMismatchError: "other columns",
    ModelUntrustedError: "not trusted",
}
_FIGURES: Final = {
    "held_out": ("held out", "on customers that it had never seen"),
    "measured": ("measured", "on a table that it may have been trained on"),
}
"""Under which name figures are kept with a model, how they are called, and what they are of."""


def list_models(name: str | None, public_key: Path | None, *, as_json: bool) -> None:
    """Print the models of the store.

    Raises:
        SettingsError: The file holds no public key.
        OSError: The store cannot be read.
    """
    trust = Trust.of(public_key, allow_pickle=True)
    found = [_listed(entry, trust) for entry in entries(name)]
    if as_json:
        say_json(found)
    elif not found:
        say(
            f"The model store has no model{f' of the name {name}' if name else ''}; "
            "train one with: python train_and_save.py"
        )
    else:
        table(("   tag", "estimator", "threshold", "state"), map(_row, found), fold="estimator")
        say("* what name:latest means, > the champion: what name alone means")


def show_model(tag: str, public_key: Path | None, *, as_json: bool) -> None:
    """Print what is known of a model.

    Raises:
        SettingsError: The file holds no public key.
        ModelError: The store has no such model, or it is not intact.
    """
    trust = Trust.of(public_key, allow_pickle=True)
    key = trust.public_key
    model = find_model(tag, trust)
    described = {
        **_described(model),
        "signature": _signature(model.folder, key),
        **({"signed_by": signature.fingerprint(key)} if key else {}),
    }
    if as_json:
        say_json({**described, "sha256": model.sha256, **model.manifest.model_dump(mode="json")})
        return
    metadata = model.metadata
    facts(
        [
            *(
                (name.replace("_", " "), _megabytes(value) if name == "size" else str(value))
                for name, value in described.items()
            ),
            ("manifest's SHA-256", model.sha256),
            ("files", ", ".join(model.manifest.files)),
            *(
                (key.replace("_", " "), str(metadata[key]))
                for key in ("converted_from", "trained_at", "git_commit", "python_version", "seed")
                if metadata.get(key)
            ),
            *_pairs("data", metadata.get("data")),
            *_pairs("libraries", metadata.get("library_versions")),
            *_pairs("labels", model.manifest.labels),
            *_figures(metadata),
            *_profit(metadata),
        ]
    )


def verify_model(tag: str, public_key: Path | None, *, allow_pickle: bool) -> None:
    """Load a model as serving would, and say what was checked.

    Raises:
        SettingsError: The file holds no public key.
        ModelError: Serving would refuse it.
    """
    trust = Trust.of(public_key, allow_pickle=allow_pickle)
    key = trust.public_key
    artifact = load_artifact(tag, trust)
    say(f"{artifact.tag} can be served.")
    facts(
        [
            ("signature", _told(_signature(artifact.folder, key), key)),
            ("files", f"{len(artifact.manifest.files)}, each with its recorded checksum"),
            ("columns", f"{len(artifact.manifest.columns)}, those of this code"),
            ("golden rows", f"{GOLDEN_ROWS}, each with the estimator's own probability"),
            ("scored by", type(artifact.scorer).__name__),
        ]
    )


def _listed(entry: Entry, trust: Trust) -> dict[str, Any]:
    """Describe a model of the store, also one that cannot be served."""
    known: dict[str, Any] = {
        "tag": entry.tag,
        "latest": entry.is_latest,
        "champion": entry.is_champion,
    }
    try:
        model = find_model(entry.tag, trust)
    except ModelError as error:
        state = next((word for kind, word in _STATES.items() if isinstance(error, kind)), "refused")
        return {**known, "state": state, "reason": str(error)}
    return {
        **known,
        "state": "portable" if not model.is_pickled else "pickle",
        **_described(model),
        "signature": _signature(model.folder, trust.public_key),
    }


def _described(model: RegisteredModel) -> dict[str, Any]:
    return {
        "tag": model.tag,
        "kind": _kind(model.manifest),
        "estimator": str(model.metadata.get("estimator", "unknown")),
        "threshold": model.threshold,
        "size": sum(file.bytes for file in model.manifest.files.values()),
    }


def _kind(manifest: Manifest) -> str:
    if not isinstance(manifest.model, Members):
        return "pickle: only scikit-learn can run it"
    kinds = [member.kind for member in manifest.model.members]
    return f"mean of {len(kinds)} x {kinds[0]}" if len(kinds) > 1 else kinds[0]


def _signature(folder: Path, key: PublicKey | None) -> str:
    """Say what is known of the signature of a model that was found with this key."""
    if key is not None:
        return "valid"
    return "unchecked" if (folder / SIGNATURE).exists() else "none"


def _told(state: str, key: PublicKey | None) -> str:
    if key is not None:
        return f"{state}, by the key {signature.fingerprint(key)}"
    return (
        f"{state}; pass --public-key to check it" if state != "none" else "none; none was asked for"
    )


def _row(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of a model in the list, narrow enough for a terminal of 80 columns."""
    marks = f"{'>' if model['champion'] else ' '}{'*' if model['latest'] else ' '}"
    tag = f"{marks} {model['tag']}"
    if "signature" not in model:
        return tag, "", "", model["state"]
    pickled = " (pickle)" if model["state"] == "pickle" else ""
    signed = {"none": "unsigned", "valid": "signed, valid"}.get(model["signature"], "signed")
    return (
        tag,
        f"{model['estimator']}{pickled}",
        f"{model['threshold']:.3f}",
        signed,
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"  # noqa: PLR2004


def _pairs(title: str, values: object) -> Iterator[tuple[str, str]]:
    if isinstance(values, dict) and values:
        yield title, ", ".join(f"{key} {value}" for key, value in values.items())


def _figures(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for section, (title, meaning) in _FIGURES.items():
        figures = metadata.get(section)
        lines = [
            f"{name:9}{figure['value']:.4f}  95%: {figure['low']:.4f} to {figure['high']:.4f}"
            for key, name in TITLES.items()
            if isinstance(figures, dict)
            and isinstance(figure := figures.get(key), dict)
            and all(isinstance(figure.get(part), float) for part in ("value", "low", "high"))
        ]
        if lines:
            yield title, "\n".join((meaning, *lines))


def _profit(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    found = metadata.get("profit")
    if not isinstance(found, dict) or not isinstance(found.get("per_customer"), dict):
        return
    figures = [found["per_customer"].get(part) for part in ("value", "low", "high")]
    if all(isinstance(figure, float) for figure in figures):
        value, low, high = figures
        meaning = f"per customer, by the policy {found.get('policy_version')} (an estimate)"
        yield "profit", f"{meaning}\n{'':9}{value:.4f}  95%: {low:.4f} to {high:.4f}"
