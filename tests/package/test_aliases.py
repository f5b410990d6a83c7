"""Which version is the champion, what a tag means because of it, and what a broken file does."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import bentoml
import pytest
from bentoml._internal.configuration.containers import BentoMLContainer

from churn_serving.errors import ModelCorruptedError, ModelNotFoundError, ModelStoreError
from churn_serving.learning.registration import save_artifact
from churn_serving.model import aliases
from churn_serving.model.aliases import ALIASES, Aliases, promote, read_aliases, roll_back
from churn_serving.model.artifact import check_model, find_model, models_folder, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.package.conftest import Fitted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a name in a store."""
    path = tmp_path / "churn"
    path.mkdir()
    return path


@pytest.fixture
def two(logistic: Fitted, model_name: str) -> tuple[str, str]:
    """The tags of two versions, the older one first."""
    first, second = (
        save_artifact(estimator=logistic.pipeline, threshold=0.5, measured={}, name=model_name)
        for _ in range(2)
    )
    return first, second


def _promote(tag: str) -> None:
    name, _, version = tag.partition(":")
    promote(models_folder() / name, version, by="ann", reason="")


def test_without_a_champion_the_name_means_the_latest(
    two: tuple[str, str], model_name: str
) -> None:
    assert find_model(model_name).tag == find_model(f"{model_name}:latest").tag == two[1]
    with pytest.raises(ModelNotFoundError, match=f"churn model promote {model_name}:VERSION"):
        find_model(f"{model_name}:champion")


def test_the_name_means_the_champion_once_there_is_one(
    two: tuple[str, str], model_name: str
) -> None:
    _promote(two[0])
    for tag in (model_name, f"{model_name}:champion"):
        assert find_model(tag).tag == two[0]
        assert check_model(tag).tag == two[0]  # what SIGHUP asks
    assert find_model(f"{model_name}:latest").tag == two[1]
    assert find_model(two[1]).tag == two[1]


def test_a_new_version_does_not_take_the_champions_place(
    two: tuple[str, str], model_name: str, logistic: Fitted
) -> None:
    _promote(two[0])
    new = save_artifact(estimator=logistic.pipeline, threshold=0.5, measured={}, name=model_name)
    assert find_model(model_name).tag == two[0]
    assert find_model(f"{model_name}:latest").tag == new


def test_a_champion_that_is_gone_is_named_and_nothing_takes_its_place(
    two: tuple[str, str], model_name: str
) -> None:
    _promote(two[0])
    bentoml.models.delete(two[0])
    with pytest.raises(ModelNotFoundError, match="churn model promote TAG") as refused:
        find_model(model_name)
    assert f"no longer has '{two[0]}', which '{model_name}' means" in str(refused.value)
    assert find_model(f"{model_name}:latest").tag == two[1]


def test_a_version_that_only_begins_like_the_champion_is_another_one(
    two: tuple[str, str], model_name: str
) -> None:
    promote(models_folder() / model_name, two[0].partition(":")[2][:-1], by="", reason="")
    with pytest.raises(ModelNotFoundError, match="no longer has"):
        find_model(model_name)


@pytest.mark.parametrize("version", ["", ":latest", ":champion"])
def test_inside_a_bento_every_alias_means_its_model(
    version: str, two: tuple[str, str], model_name: str
) -> None:
    _promote(two[1])
    before = BentoMLContainer.model_aliases.get()
    try:
        for alias in ("churn_classifier", "churn_classifier:latest"):
            BentoMLContainer.model_aliases.set({alias: two[0]})
            assert resolve(f"churn_classifier{version}") == two[0]
            assert find_model(f"{model_name}{version}").tag == two[0]
            assert find_model(two[1]).tag == two[1]
        # The project's own bentofile.yaml, which `bentoml serve .` reads, names no version.
        BentoMLContainer.model_aliases.set({model_name: f"{model_name}:latest"})
        assert find_model(model_name).tag == two[1]
    finally:
        BentoMLContainer.model_aliases.set(before)


BAD = {
    "empty": b"",
    "cut off": b'{"champion": "v1", "hist',
    "bytes": bytes(range(256)),
    "a list": b"[]",
    "a path": b'{"champion": "../../etc"}',
    "a number": b'{"champion": 1}',
    "latest itself": b'{"champion": "v1:latest"}',
    "more": b'{"champion": "v1", "\x1b[31m": 1}',
    "other history": b'{"champion": "v1", "history": [{"alias": "champion"}]}',
    "control": json.dumps(
        {
            "champion": "v1",
            "history": [
                {"version": "v1", "previous": None, "at": "2026-01-01T00:00", "by": "\x1b[2J"}
            ],
        }
    ).encode(),
    "deep": b'{"history":' + b"[" * 100_000,
}


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(5 * 1024**2)


PLACES: dict[str, Callable[[Path], None]] = {
    "folder": Path.mkdir,
    "link": _link,
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "pipe": os.mkfifo,
    "large": _large,
    **{
        name: lambda path, content=content: path.write_bytes(content)  # type: ignore[misc] # of a loop
        for name, content in BAD.items()
    },
}


@pytest.mark.parametrize("spoil", PLACES.values(), ids=PLACES)
def test_a_broken_file_is_one_sentence_and_stays_as_it_is(
    spoil: Callable[[Path], None], folder: Path
) -> None:
    spoil(folder / ALIASES)
    before = os.lstat(folder / ALIASES)
    for ask in (
        read_aliases,
        lambda folder: promote(folder, "v2", by="", reason=""),
        lambda folder: roll_back(folder, "v2", by="", reason=""),
    ):
        with pytest.raises(ModelCorruptedError, match=re.escape(str(folder / ALIASES))) as refused:
            ask(folder)
        assert str(refused.value).isprintable()
        assert "remove it" in str(refused.value)
    assert os.lstat(folder / ALIASES).st_mtime_ns == before.st_mtime_ns


def test_a_broken_file_leaves_the_versions_that_are_named(
    two: tuple[str, str], model_name: str
) -> None:
    (models_folder() / model_name / ALIASES).write_text("nonsense")
    for tag in (model_name, f"{model_name}:champion"):
        with pytest.raises(ModelCorruptedError, match="says nothing sensible"):
            find_model(tag)
    assert find_model(f"{model_name}:latest").tag == two[1]
    assert find_model(two[0]).tag == two[0]


def test_aliases_that_cannot_be_read_are_one_sentence(
    two: tuple[str, str], model_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied", "aliases.json")

    _promote(two[0])
    monkeypatch.setattr(aliases, "read_file", denied)
    with pytest.raises(ModelStoreError, match=r"Permission denied: aliases\.json"):
        find_model(model_name)


def test_the_history_says_who_when_and_why(folder: Path) -> None:
    promote(folder, "v1", by="ann", reason="the first")
    promote(folder, "v2", by="bob", reason="better")
    written = json.loads((folder / ALIASES).read_text())
    assert written["champion"] == "v2"
    first, second = written["history"]
    assert (first["version"], first["previous"], first["by"]) == ("v1", None, "ann")
    assert (second["version"], second["previous"], second["reason"]) == ("v2", "v1", "better")
    assert second["alias"] == "champion"
    assert second["at"].endswith("+00:00")


def test_to_promote_the_champion_again_changes_nothing(folder: Path) -> None:
    assert promote(folder, "v1", by="", reason="") is not None
    assert promote(folder, "v1", by="", reason="") is None
    assert len(read_aliases(folder).history) == 1


def _back(folder: Path) -> str | None:
    before = read_aliases(folder).before
    if before is not None:
        roll_back(folder, before, by="", reason="")
        assert read_aliases(folder).champion == before
    return before


def test_rollbacks_go_back_one_by_one_and_no_further(folder: Path) -> None:
    assert Aliases().before is None
    for version in ("v1", "v2", "v3"):
        promote(folder, version, by="", reason="")
    assert [_back(folder) for _ in range(4)] == ["v2", "v1", None, None]
    promote(folder, "v4", by="", reason="")
    assert [_back(folder) for _ in range(2)] == ["v1", None]


def test_a_rollback_of_what_somebody_else_has_changed_is_refused(folder: Path) -> None:
    for version in ("v1", "v2", "v3"):
        promote(folder, version, by="", reason="")
    with pytest.raises(ModelNotFoundError, match="was changed meanwhile"):
        roll_back(folder, "v1", by="", reason="")


def test_of_many_at_once_none_is_lost(folder: Path) -> None:
    versions = [f"v{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        changes = list(threads.map(lambda v: promote(folder, v, by="", reason=""), versions))
    found = read_aliases(folder)
    assert {change.version for change in found.history} == set(versions)
    assert None not in changes
    for one, other in zip(found.history, found.history[1:], strict=False):
        assert other.previous == one.version
    assert found.champion == found.history[-1].version


def test_the_oldest_changes_are_forgotten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliases, "_MAX_CHANGES", 3)
    for number in range(6):
        promote(folder, f"v{number}", by="", reason="")
    assert [change.version for change in read_aliases(folder).history] == ["v3", "v4", "v5"]
    assert [_back(folder) for _ in range(3)] == ["v4", "v3", None]


def test_a_write_that_fails_leaves_the_old_champion(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    promote(folder, "v1", by="", reason="")
    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            promote(folder, "v2", by="", reason="")
    assert read_aliases(folder).champion == "v1"
    assert not list(folder.glob("*.tmp"))
    assert not list(folder.glob(".*.tmp"))
