"""The rolling update and the canary that the manifests describe, behind a real proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.chaos.model import register_models
from tests.system.rollout import canary, rolling_update
from tests.tools import tool

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module", autouse=True)
def haproxy() -> str:
    return tool("haproxy")


@pytest.fixture(scope="module")
def generation_models() -> dict[str, str]:
    return register_models()


def test_a_rolling_update_fails_no_request(
    generation_models: dict[str, str], tmp_path: Path
) -> None:
    update = rolling_update(tmp_path, generation_models, lambda _: None)
    assert update.failed == 0, update
    assert update.by_old > 0
    assert update.by_new > 0


def test_a_canary_gets_its_share(generation_models: dict[str, str], tmp_path: Path) -> None:
    split = canary(tmp_path, generation_models, lambda _: None)
    assert split.failed == 0
    assert split.share == pytest.approx(0.10, abs=0.01)
