"""Which commit of the code runs here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["git_commit"]

_UNKNOWN: Final = "unknown"
_ROOT: Final = Path(__file__).parents[2]
"""The checkout, or the Bento."""
_LABEL: Final = re.compile(r"^  git_commit: '?([0-9a-f]{40}(?:-dirty)?)'?$", re.MULTILINE)
_PATIENCE_SECONDS: Final = 5.0


def git_commit(root: Path = _ROOT) -> str:
    """Return the commit, with ``-dirty`` if files differ from it, or ``unknown``.

    A checkout is asked itself; a Bento has it among its labels, where ``make bento`` writes it.

    Args:
        root: The folder that has the package in its ``src``.
    """
    if (root / ".git").exists():
        return _of_checkout(root)
    try:
        # By its line: to parse the whole file takes a third of a second.
        label = _LABEL.search((root / "bento.yaml").read_text(encoding="utf-8"))
    except OSError:
        return _UNKNOWN
    return label[1] if label else _UNKNOWN


def _of_checkout(root: Path) -> str:
    command = ["git", "-C", str(root), "--no-optional-locks", "describe"]
    command += ["--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(  # noqa: S603 - our own words, and where we are
            command,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return _UNKNOWN
    return done.stdout.strip() or _UNKNOWN
