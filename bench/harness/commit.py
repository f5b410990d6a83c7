"""Another commit of this project as a server of its own, to be compared with this one."""

from __future__ import annotations

import subprocess
import tarfile
from typing import TYPE_CHECKING

from bench.errors import BenchmarkError
from bench.harness.workload import register_models, train_models
from bench.kinds import MODELS
from bench.process import ROOT
from bench.servers.ours import of_commit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.servers.server import Server

__all__ = ["server_of_commit"]


def server_of_commit(commit: str, folder: Path, models: Sequence[str]) -> Server:
    """Unpack a commit into ``folder``, let it train its own models, and return its service.

    It is asked for those of ``models`` that it can serve.

    The training runs in the environment of the bench, the service in that of the commit's lock.

    Raises:
        BenchmarkError: There is no such commit, or its training failed.
    """
    folder.mkdir(parents=True)
    name = _git("rev-parse", "--short", "--verify", f"{commit}^{{commit}}")
    archive = folder / "commit.tar"
    _git("archive", f"--output={archive}", name)
    root = folder / "checkout"
    with tarfile.open(archive) as packed:
        packed.extractall(root, filter="data")
    home = folder / "bentoml"
    train_models(home, root, models)
    further = register_models(home, root, (model for model in models if model not in MODELS))
    served = tuple(model for model in models if model in MODELS or model in further)
    return of_commit(name, root, home, served)


def _git(*arguments: str) -> str:
    result = subprocess.run(
        ("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise BenchmarkError(f"git {arguments[0]} failed: {result.stderr.strip()}")
    return result.stdout.strip()
