"""The locks hold what ``pyproject.toml`` asks for, nothing twice, and nothing unchecked."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from requirements import lock as tool

PROJECT: Final = Path(__file__).parents[2]
PYPROJECT: Final[dict[str, Any]] = tomllib.loads((PROJECT / "pyproject.toml").read_text())
SERVERS: Final = [source.with_suffix(".txt") for source in tool.SERVERS]
LOCKS: Final = [*(tool.HERE / f"{name}.txt" for name in tool.BELOW), *SERVERS]


def label(path: Path) -> str:
    return path.stem if path.parent == tool.HERE else path.parent.name


def pins(*locks: Path) -> list[Requirement]:
    lines = [line for lock in locks for line, _ in tool.PIN.findall(lock.read_text())]
    return [Requirement(line.rstrip(" \\")) for line in lines]


def names(*levels: str) -> set[str]:
    return {pin.name for pin in pins(*(tool.HERE / f"{level}.txt" for level in levels))}


def asked_for(level: str) -> list[Requirement]:
    project = PYPROJECT["project"]
    tables = {"runtime": project["dependencies"], **project["optional-dependencies"]}
    tables |= PYPROJECT["dependency-groups"]
    wanted = [Requirement(text) for text in tables[level] if isinstance(text, str)]
    # Some extras hold another one.
    return [one for one in wanted if one.name != PYPROJECT["project"]["name"]]


@pytest.mark.parametrize("lock", LOCKS, ids=label)
def test_no_lock_is_stale(lock: Path) -> None:
    first, *_ = lock.read_text().splitlines(keepends=True)
    assert first == tool.header(lock), "run: make lock"


def test_a_requirement_that_is_added_makes_its_lock_and_those_on_it_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = ("train", "dev", "bench")
    before = [tool.header(tool.HERE / f"{level}.txt") for level in levels]
    text = (PROJECT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text.replace("\ndev = [", '\ndev = [\n  "new",'))
    monkeypatch.setattr(tool, "HERE", tmp_path / "requirements")
    after = [tool.header(tool.HERE / f"{level}.txt") for level in levels]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]


def test_an_overridden_package_makes_the_lock_of_a_server_stale(
    tmp_path: Path,
) -> None:
    (tmp_path / "requirements.in").write_text("fastapi\n")
    before = tool.header(tmp_path / "requirements.txt")
    (tmp_path / "overrides.txt").write_text("protobuf>=5\n")
    assert tool.header(tmp_path / "requirements.txt") != before


@pytest.mark.parametrize("level", tool.BELOW)
def test_what_is_asked_for_is_pinned_within_its_bounds(level: str) -> None:
    pinned = pins(*(tool.HERE / f"{name}.txt" for name in (*tool.BELOW[level], level)))
    for wanted in asked_for(level):
        found = [pin for pin in pinned if pin.name == canonicalize_name(wanted.name)]
        assert found, wanted
        for pin in found:
            (version,) = pin.specifier
            assert wanted.specifier.contains(version.version, prereleases=True), (pin, wanted)


@pytest.mark.parametrize("level", tool.BELOW)
def test_a_lock_repeats_no_pin_of_those_below_it(level: str) -> None:
    # A name may come again, for another platform.
    below = pins(*(tool.HERE / f"{name}.txt" for name in tool.BELOW[level]))
    assert not set(map(str, pins(tool.HERE / f"{level}.txt"))) & set(map(str, below))


def test_locks_that_are_installed_together_agree_on_versions() -> None:
    pinned: dict[str, set[str]] = {}
    for level in tool.BELOW:
        mine: dict[str, set[str]] = {}
        for pin in pins(tool.HERE / f"{level}.txt"):
            mine.setdefault(pin.name, set()).add(str(pin.specifier))
        for name, versions in mine.items():
            assert versions <= pinned.setdefault(name, versions), name


@pytest.mark.parametrize("lock", [*LOCKS, tool.HERE / "data.txt"], ids=label)
def test_every_pin_has_its_hashes_and_no_lock_names_an_index(lock: Path) -> None:
    text = lock.read_text()
    found = tool.PIN.findall(text)
    assert found
    assert all("--hash=sha256:" in rest for _, rest in found)
    assert "://" not in text
    assert not [line for line in text.splitlines() if line.startswith("-")]


@pytest.mark.parametrize("level", tool.EXTRAS)
def test_an_extra_has_the_locks_of_those_it_holds_below_it(level: str) -> None:
    texts = PYPROJECT["project"]["optional-dependencies"][level]
    held = [Requirement(text) for text in texts if text.startswith("churn-serving[")]
    assert {extra for one in held for extra in one.extras} <= set(tool.BELOW[level])


def test_serving_needs_neither_what_models_are_trained_with_nor_a_pickles_classes() -> None:
    absent = {"joblib", "lightgbm", "pandas", "scikit-learn", "scipy", "threadpoolctl", "xgboost"}
    assert not names("runtime") & absent
    assert names("sklearn") >= {"joblib", "scikit-learn", "scipy", "threadpoolctl"}
    assert not names("sklearn") & {"pandas", "pyarrow"}


def test_serving_and_training_need_no_linter_and_no_test_runner() -> None:
    assert not names("runtime", "sklearn", "train", "build") & {"mypy", "pytest", "ruff", "uv"}


def test_servers_get_our_versions_of_what_the_model_is_made_of() -> None:
    ours = {str(pin) for pin in pins(*(tool.HERE / f"{name}.txt" for name in tool.MADE_OF))}
    theirs = {str(pin) for pin in pins(*SERVERS) if pin.name in {"numpy", "scikit-learn", "scipy"}}
    assert SERVERS
    assert {pin.name for pin in pins(*SERVERS)} >= {"numpy", "scikit-learn", "scipy"}
    assert theirs <= ours
