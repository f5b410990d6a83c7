"""What a server is installed in: an environment of its own, made once, or that of the bench."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement

from bench.errors import BenchmarkError
from bench.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import Distribution

    from bench.servers.server import Server

__all__ = ["Environment", "install"]

ENVIRONMENTS: Final = ROOT / "build" / "bench"

_UV: Final = str(Path(sys.executable).with_name("uv"))
_STAMP: Final = "installed"
_LAST_LINES: Final = 5
# In every environment, for the installation only.
_INSTALLERS: Final = ("pip", "setuptools")


@dataclass(frozen=True, slots=True)
class Environment:
    """An installed server.

    Attributes:
        python: The interpreter.
        version: Of the distribution that the server needs first.
        packages: How many distributions it needs.
        size_mb: What they take on the disk, in 10^6 bytes, without compiled bytecode.
    """

    python: Path
    version: str
    packages: int
    size_mb: float


def install(server: Server, folder: Path = ENVIRONMENTS) -> Environment:
    """Make the server's environment below ``folder``, unless it is there already.

    Raises:
        BenchmarkError: A program that it needs is missing, or its packages cannot be installed.
    """
    for tool in server.tools:
        if shutil.which(tool.command) is None:
            raise BenchmarkError(f"{tool.command} is missing; {tool.advice}")
    if server.lock is None:
        python, found = Path(sys.executable), _needed(server.needs)
    else:
        # Not resolved: the interpreter of an environment is a link to the one that made it.
        python = _made(server, server.lock, folder).absolute()
        (packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
        found = {
            _canonical(distribution.name): distribution
            for distribution in importlib.metadata.distributions(path=[str(packages)])
            if distribution.name not in _INSTALLERS
        }
    version = found[server.needs[0]].version
    return Environment(python, version, len(found), _size_mb(found.values()))


def _made(server: Server, lock: Path, folder: Path) -> Path:
    """Return the interpreter of the server's own environment."""
    version = f"{platform.python_implementation()} {platform.python_version()}"
    text = "\n".join((lock.read_text(), *server.unlocked, version))
    digest = hashlib.sha256(text.encode()).hexdigest()
    # Commits of this project with the same lock share an environment.
    own = folder / (f"runtime-{digest[:8]}" if server.requirements else server.folder.name)
    python, stamp = own / "bin" / "python", own / _STAMP
    if stamp.exists() and stamp.read_text() == digest:
        return python
    shutil.rmtree(own, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(own))
    if server.unlocked:
        _run(str(python), "-m", "pip", "install", *server.unlocked)
    # A lock is complete, and may overrule what a package says it can live with. Compiled now, so
    # that the first start is not slower than the second.
    _run(
        *(_UV, "pip", "install", "--python", str(python), "--compile-bytecode"),
        *("--no-deps", "--require-hashes", "--requirements", str(lock)),
    )
    stamp.write_text(digest)
    return python


def _needed(names: Iterable[str]) -> dict[str, Distribution]:
    """Return these distributions and all that they require in turn, as they are installed here."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        name = _canonical(requirement.name)
        if name in found and not requirement.extras:
            continue
        found[name] = distribution = importlib.metadata.distribution(name)
        extras = requirement.extras or {""}
        for text in distribution.requires or ():
            part = Requirement(text)
            if part.marker is None or any(part.marker.evaluate({"extra": one}) for one in extras):
                waiting.append(part)
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _size_mb(distributions: Iterable[Distribution]) -> float:
    files = (
        path
        for distribution in distributions
        for file in distribution.files or ()
        if (path := Path(str(distribution.locate_file(file)))).is_file() and path.suffix != ".pyc"
    )
    return sum(path.stat().st_size for path in files) / 1e6


def _run(*command: str) -> None:
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode:
        end = "\n".join(result.stdout.strip().splitlines()[-_LAST_LINES:])
        raise BenchmarkError(f"It cannot be installed:\n{end}")
