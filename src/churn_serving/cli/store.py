"""The folders of BentoML's model store: a damaged one must not hide the others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from churn_serving.errors import ModelCorruptedError, ModelNotFoundError
from churn_serving.model.aliases import CHAMPION, LATEST, read_aliases

__all__ = ["Entry", "entries", "find_entry"]

_MODEL_YAML: Final = "model.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model's folder.

    Attributes:
        tag: ``name:version``.
        folder: Where its files are.
        is_latest: Whether ``name:latest`` means it.
        is_champion: Whether ``name:champion`` means it.
    """

    tag: str
    folder: Path
    is_latest: bool
    is_champion: bool


def entries(name: str | None = None) -> list[Entry]:
    """Return what the store has, of one name or of all; of each name the newest first.

    Raises:
        OSError: The store cannot be read.
    """
    store = Path(os.environ.get("BENTOML_HOME") or "~/bentoml").expanduser() / "models"
    names = sorted(store.iterdir()) if store.is_dir() else []
    return [
        entry
        for folder in names
        if folder.is_dir() and name in (None, folder.name)
        for entry in _versions(folder)
    ]


def find_entry(tag: str) -> Entry:
    """Return the folder of a model, whatever wrote it; without a version, of the one served.

    Raises:
        ModelNotFoundError: There is none.
        OSError: The store cannot be read.
    """
    name, _, version = tag.partition(":")
    found = entries(name)
    if version in {"", LATEST, CHAMPION}:
        if version != LATEST and any(entry.is_champion for entry in found):
            found = [entry for entry in found if entry.is_champion]
        elif version == CHAMPION:
            found = []
        found.sort(key=lambda entry: not entry.is_latest)  # it may be missing
    else:
        found = [entry for entry in found if entry.tag == tag]
    if not found:
        raise ModelNotFoundError(
            f"The model store has no model '{tag}'; see what it has with: churn model list"
        )
    return found[0]


def _versions(folder: Path) -> list[Entry]:
    try:
        latest = (folder / LATEST).read_text(encoding="utf-8").strip()
    except OSError:
        latest = ""
    try:
        champion = read_aliases(folder).champion
    except (ModelCorruptedError, OSError):
        champion = None  # it is told where it matters
    versions = [version for version in folder.iterdir() if version.is_dir()]
    versions.sort(key=_saved_at, reverse=True)
    return [
        Entry(
            tag=f"{folder.name}:{version.name}",
            folder=version,
            is_latest=version.name == latest,
            is_champion=version.name == champion,
        )
        for version in versions
    ]


def _saved_at(version: Path) -> float:
    try:
        return (version / _MODEL_YAML).stat().st_mtime
    except OSError:
        return 0.0
