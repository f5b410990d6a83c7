"""What tests need of the machine: programs that are no Python packages, and ports."""

from __future__ import annotations

import shutil
import socket
from importlib.util import find_spec
from typing import Final

import pytest

__all__ = ["PACKAGES", "free_port", "module", "tool"]

PACKAGES: Final = {
    "chromium": "chromium",
    "haproxy": "haproxy",
    "h2load": "nghttp2-client",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "wrk": "wrk",
}
"""The Debian package of each."""


def tool(name: str) -> str:
    """Return the path of a program; without it, the test fails and says what to install."""
    if path := shutil.which(name):
        return path
    pytest.fail(f"{name} is missing: apt install {PACKAGES[name]}")


def module(name: str, installed_by: str) -> None:
    """Without a Python package that is not among the tests' own, the test fails and says so."""
    if find_spec(name) is None:
        pytest.fail(f"{name} is missing: {installed_by} installs it")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
