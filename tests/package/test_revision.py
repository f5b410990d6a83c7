"""The commit of the code: of a checkout, of a Bento, or of neither."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from churn_serving.revision import git_commit

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(folder: Path, *arguments: str) -> str:
    """Run git, with no settings but these."""
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments],  # noqa: S607 - the user's own
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of one commit."""
    # As a hook of git's own has them, of another repository.
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").write_text("one")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message=one")
    return tmp_path


def test_a_checkout_is_at_its_commit(checkout: Path) -> None:
    # A tag does not change its name.
    git(checkout, "tag", "--annotate", "--message=v1", "v1")
    assert git_commit(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_checkout_with_changes_says_so(checkout: Path) -> None:
    (checkout / "file").write_text("other")
    assert git_commit(checkout) == f"{git(checkout, 'rev-parse', 'HEAD')}-dirty"


def test_a_worktree_is_at_its_own_commit(checkout: Path) -> None:
    git(checkout, "worktree", "add", "--quiet", "tree")
    tree = checkout / "tree"
    git(tree, "commit", "--quiet", "--allow-empty", "--message=two")
    assert git_commit(tree) == git(tree, "rev-parse", "HEAD") != git_commit(checkout)


def test_a_checkout_without_git_or_without_a_commit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet")
    assert git_commit(tmp_path) == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) == "unknown"


@pytest.mark.parametrize("commit", [COMMIT, f"{COMMIT}-dirty"])
@pytest.mark.parametrize("quote", ["", "'"])
def test_a_bento_has_it_among_its_labels(tmp_path: Path, commit: str, quote: str) -> None:
    (tmp_path / "bento.yaml").write_text(
        f"name: x\nlabels:\n  git_commit: {quote}{commit}{quote}\n  project: x\nmodels: []\n"
    )
    assert git_commit(tmp_path) == commit


def test_what_is_neither_is_unknown(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "unknown"
    (tmp_path / "bento.yaml").write_text("labels:\n  project: x\n")
    assert git_commit(tmp_path) == "unknown"
