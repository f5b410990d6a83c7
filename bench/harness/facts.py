"""The machine and the versions that a figure was measured with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["facts", "sentence"]

_PACKAGES: Final = (
    "churn-serving",
    "bentoml",
    "fastapi",
    "httptools",
    "lightgbm",
    "numpy",
    "prometheus-fastapi-instrumentator",
    "pydantic",
    "pydantic-core",
    "scikit-learn",
    "starlette",
    "uvicorn",
    "uvloop",
    "xgboost-cpu",
)


def facts() -> dict[str, object]:
    """Return what a reader needs to judge the figures."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "wrk": _said("wrk", "-v").partition("Copyright")[0].strip(),
        "h2load": _said("h2load", "--version"),
        "packages": dict(_versions()),
    }


def sentence(facts: Mapping[str, Any]) -> str:
    """Return the same for people."""
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{facts['date']}, {facts['cpu']} ({facts['cores']} cores), Python {facts['python']}, "
        f"{packages}, {facts['wrk']}, {facts['h2load']}."
    )


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):  # a booster's library is optional
            yield package, importlib.metadata.version(package)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _said(*command: str) -> str:
    # wrk prints its version above the usage, and fails.
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return f"no {command[0]}"
    return result.stdout.strip()
