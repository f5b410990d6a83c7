"""The rolling update and the canary that the manifests describe, behind a real proxy."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.chaos.model import register_models
from tests.rollout import canary, rolling_update

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module", autouse=True)
def haproxy() -> None:
    if shutil.which("haproxy") is None:
        if "CHURN_TESTS_WITHOUT_HAPROXY" in os.environ:
            pytest.skip("HAProxy is missing, and CHURN_TESTS_WITHOUT_HAPROXY is set")
        pytest.fail("HAProxy is missing; on Debian: apt install haproxy")


@pytest.fixture(scope="module")
def generation_models() -> dict[str, str]:
    return register_models()


def test_a_rolling_update_fails_no_request(
    generation_models: dict[str, str], tmp_path: Path
) -> None:
    update = rolling_update(tmp_path, generation_models, lambda _: None)
    assert update.failed == 0, update
    assert update.by_old > 1000
    assert update.by_new > 1000


def test_a_canary_gets_its_share(generation_models: dict[str, str], tmp_path: Path) -> None:
    split = canary(tmp_path, generation_models, lambda _: None)
    assert split.failed == 0
    assert split.share == pytest.approx(0.10, abs=0.01)
