"""The chaos scenarios in their short form; ``python -m tests.system.chaos`` plays the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.chaos.model import register_models
from tests.system.chaos.play import play
from tests.system.chaos.scenarios import SCENARIOS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def chaos_models() -> dict[str, str]:
    return register_models()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_service_withstands(name: str, chaos_models: dict[str, str], tmp_path: Path) -> None:
    report = play(name, folder=tmp_path, models=chaos_models, quick=True)
    # What this machine does not allow, like a full disk without root, is `not_run`; all else holds.
    assert report.failures == [], report
