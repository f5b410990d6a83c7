"""What builds and runs images: docker, podman or buildah, called as commands."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ENGINES = ("docker", "podman", "buildah")
NAME = "churn-serving"
IMAGE = f"{NAME}:latest"


class ImageError(Exception):
    """What went wrong, in one sentence that says what to do."""


def find_engine() -> str:
    """Return the engine to use.

    Raises:
        ImageError: There is none, or not the one that is asked for.
    """
    wanted = os.environ.get("ENGINE")
    for engine in (wanted,) if wanted else ENGINES:
        # docker may be installed without its daemon running.
        if shutil.which(engine) and succeeds([engine, "info"]):
            return engine
    names = wanted or "docker, podman or buildah"
    raise ImageError(f"There is no {names} that works here; install one, or start it.")


def run(command: Sequence[str], problem: str) -> None:
    """Run a command that shows what it does.

    Raises:
        ImageError: It failed; the problem is the text.
    """
    if subprocess.run(command, check=False).returncode != 0:
        raise ImageError(problem)


def succeeds(command: Sequence[str]) -> bool:
    """Run a command quietly and say whether it succeeds."""
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def output(command: Sequence[str]) -> str:
    """Return what a command prints.

    Raises:
        ImageError: It failed.
    """
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout.strip()
    raise ImageError(f"{' '.join(command[:3])} failed: {done.stderr.strip()}")


def say(text: str) -> None:
    """Tell which step comes, or what was found."""
    print(f"==> {text}", flush=True)
