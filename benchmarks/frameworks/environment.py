"""The virtual environment of a framework: made once, kept until its lock changes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.frameworks.framework import Framework

__all__ = ["Environment", "install"]

_UV: Final = str(Path(sys.executable).with_name("uv"))
_STAMP: Final = "installed"
_LAST_LINES: Final = 5
# In every environment, for the installation only.
_INSTALLERS: Final = ("pip", "setuptools")


@dataclass(frozen=True, slots=True)
class Environment:
    """An installed framework.

    Attributes:
        python: Its interpreter.
        version: Of the framework.
        packages: How many distributions were installed.
        size_mb: What they take on the disk, in 10^6 bytes, without compiled bytecode.
    """

    python: Path
    version: str
    packages: int
    size_mb: float


def install(framework: Framework, folder: Path) -> Environment:
    """Make the framework's environment in ``folder``, unless it is there already.

    Raises:
        BenchmarkError: A program that it needs is missing, or its packages cannot be installed.
    """
    for tool in framework.tools:
        if shutil.which(tool.command) is None:
            raise BenchmarkError(f"{tool.command} is missing; {tool.advice}")
    lock = framework.folder / "requirements.txt"
    python = folder / "bin" / "python"
    stamp = folder / _STAMP
    digest = _digest(lock.read_bytes(), framework.unlocked)
    if not (stamp.exists() and stamp.read_text() == digest):
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        if framework.unlocked:
            _run(str(python), "-m", "pip", "install", *framework.unlocked)
        # A lock is complete, and may overrule what a package says it can live with. Compiled now,
        # so that the first start is not slower than the second.
        _run(
            *(_UV, "pip", "install", "--python", str(python), "--compile-bytecode"),
            *("--no-deps", "--require-hashes", "--requirements", str(lock)),
        )
        stamp.write_text(digest)
    # Not resolved: the interpreter of an environment is a link to the one that made it.
    (packages,) = (folder / "lib").glob("python*/site-packages")
    installed = [
        distribution
        for distribution in importlib.metadata.distributions(path=[str(packages)])
        if distribution.name not in _INSTALLERS
    ]
    versions = {distribution.name: distribution.version for distribution in installed}
    return Environment(
        python.absolute(), versions[framework.package], len(installed), _size_mb(packages)
    )


def _digest(lock: bytes, unlocked: Sequence[str]) -> str:
    parts = (lock, *(requirement.encode() for requirement in unlocked), _python().encode())
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def _python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def _size_mb(packages: Path) -> float:
    files = (
        path
        for path in packages.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and path.suffix != ".pyc"
        and not path.relative_to(packages).parts[0].startswith(_INSTALLERS)
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
