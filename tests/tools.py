"""Programs that some tests run, and that are no Python packages."""

from __future__ import annotations

import os
import shutil
from typing import Final

import pytest

__all__ = ["PACKAGES", "REQUIRED", "tool"]

PACKAGES: Final = {
    "haproxy": "haproxy",
    "prometheus": "prometheus",
    "promtool": "prometheus",
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
