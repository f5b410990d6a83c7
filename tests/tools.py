"""What tests need of the machine: programs that are no Python packages, and ports."""

from __future__ import annotations

import os
import shutil
import socket
from typing import Final

import pytest

__all__ = ["PACKAGES", "REQUIRED", "free_port", "tool"]

PACKAGES: Final = {
    "haproxy": "haproxy",
    "h2load": "nghttp2-client",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "wrk": "wrk",
}
"""The Debian package of each."""

REQUIRED: Final = "REQUIRE_TOOLS"
"""The variable that CI sets: there, a missing program fails the tests that need it."""


def tool(name: str) -> str:
    """Return the path of a program; without it, skip the test, or let it fail if it must not be."""
    if path := shutil.which(name):
        return path
    message = f"{name} is missing: apt install {PACKAGES[name]}"
    if os.environ.get(REQUIRED):
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
