"""What tests need of the machine: programs that are no Python packages, and ports."""

from __future__ import annotations

import shutil
import socket
from typing import Final

import pytest

__all__ = ["PACKAGES", "free_port", "tool"]

PACKAGES: Final = {
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


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
