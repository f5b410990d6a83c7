"""A worker that is started again serves what its neighbours do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from churn_serving.errors import PolicyError
from churn_serving.model.policy import Policy
from churn_serving.runtime.pins import current_policy, pinned_policy, pins
from churn_serving.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "policy.toml"
    file.write_text('offer_cost = 25\ncontrol_share = 0.1\ncontrol_salt = "2026 \\"ü\\""\n')
    return Settings(policy_file=file)


def pin(policy: Policy, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in pins("churn:v1", policy, settings).items():
        monkeypatch.setenv(name, value)


def test_the_model_is_named_with_its_version(settings: Settings) -> None:
    assert pins("churn:v1", Policy(), Settings()) == {"CHURN_MODEL_TAG": "churn:v1"}
    assert pins("churn:v1", Policy(), settings)["CHURN_MODEL_TAG"] == "churn:v1"


def test_a_file_that_was_changed_counts_for_the_next_reload_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = current_policy(settings)
    pin(policy, settings, monkeypatch)
    assert settings.policy_file is not None
    settings.policy_file.write_text("offer_cost = 30")
    assert pinned_policy(settings) == policy
    assert pinned_policy(settings).version == policy.version
    pin(current_policy(settings), settings, monkeypatch)
    assert pinned_policy(settings).offer_cost == 30


def test_a_file_that_was_spoilt_stops_a_reload_but_no_worker(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(current_policy(settings), settings, monkeypatch)
    assert settings.policy_file is not None
    settings.policy_file.write_text("offer_cost = 'many'")
    assert pinned_policy(settings).offer_cost == 25
    with pytest.raises(PolicyError, match="offer_cost"):
        current_policy(settings)


def test_what_was_pinned_of_another_file_does_not_count(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(current_policy(settings), settings, monkeypatch)
    other = tmp_path / "other.json"
    other.write_text('{"offer_cost": 5}')
    assert pinned_policy(Settings(policy_file=other)).offer_cost == 5
    assert pinned_policy(Settings()) == Policy()
