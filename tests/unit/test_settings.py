from __future__ import annotations

import os
from typing import Any

import pytest
from pydantic import ValidationError

from churn_serving.errors import SettingsError
from churn_serving.schema import MAX_BATCH_ITEMS
from churn_serving.settings import ENV_PREFIX, Settings, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the developer has set must not decide a test."""
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = load_settings()
    assert settings.model_tag == "churn_classifier:latest"
    assert settings.decision_threshold is None
    assert settings.request_timeout_seconds == 5
    assert settings.max_body_bytes == 128 * 1024
    assert settings.max_batch_size == 256


def test_there_is_a_worker_for_each_cpu_that_may_be_used() -> None:
    assert 1 <= load_settings().workers <= (os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        assert load_settings().workers <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("WORKERS", "3", 3),
        ("MODEL_TAG", "churn_classifier", "churn_classifier"),
        ("MODEL_TAG", "other.model-2:v1", "other.model-2:v1"),
        ("DECISION_THRESHOLD", "0", 0.0),
        ("DECISION_THRESHOLD", "0.3", 0.3),
        ("DECISION_THRESHOLD", "1", 1.0),
        ("REQUEST_TIMEOUT_SECONDS", "0.25", 0.25),
        ("REQUEST_TIMEOUT_SECONDS", "300", 300.0),
        ("MAX_BODY_BYTES", "1024", 1024),
        ("MAX_BATCH_SIZE", "1", 1),
        ("QUEUE_SIZE", "100", 100),
        ("ACCESS_LOG", "true", True),
    ],
)
def test_a_variable_decides_its_setting(
    name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CHURN_{name}", text)
    assert getattr(load_settings(), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("WORKERS", "0"),
        ("WORKERS", "-1"),
        ("WORKERS", "many"),
        ("WORKERS", ""),
        ("WORKERS", "1.5"),
        ("MODEL_TAG", ""),
        ("MODEL_TAG", "Churn:latest"),
        ("MODEL_TAG", "a:b:c"),
        ("MODEL_TAG", "../churn"),
        ("DECISION_THRESHOLD", "1.01"),
        ("DECISION_THRESHOLD", "-0.01"),
        ("DECISION_THRESHOLD", "nan"),
        ("REQUEST_TIMEOUT_SECONDS", "0"),
        ("REQUEST_TIMEOUT_SECONDS", "-5"),
        ("REQUEST_TIMEOUT_SECONDS", "301"),
        ("REQUEST_TIMEOUT_SECONDS", "inf"),
        ("REQUEST_TIMEOUT_SECONDS", "nan"),
        ("MAX_BODY_BYTES", "1023"),
        ("MAX_BATCH_SIZE", "0"),
        ("MAX_BATCH_SIZE", "100001"),
        ("QUEUE_SIZE", "0"),
        ("ACCESS_LOG", "perhaps"),
    ],
)
def test_refuses_an_impossible_value_by_the_name_of_its_variable(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CHURN_{name}", text)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert f"CHURN_{name}: " in str(refused.value)
    assert str(refused.value).count("CHURN_") == 1


def test_every_impossible_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKERS", "MAX_BATCH_SIZE", "ACCESS_LOG"):
        monkeypatch.setenv(f"CHURN_{name}", "many")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    for name in ("WORKERS", "MAX_BATCH_SIZE", "ACCESS_LOG"):
        assert f"CHURN_{name}: Input should be a valid " in str(refused.value)


def test_the_message_is_one_line_and_does_not_repeat_the_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHURN_MODEL_TAG", "secret 4711")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "4711" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_variables_of_others_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "77")
    monkeypatch.setenv("MODEL_TAG", "impossible tag")
    assert load_settings().workers != 77
    assert load_settings().model_tag == "churn_classifier:latest"


def test_settings_cannot_be_changed_once_loaded() -> None:
    settings: Any = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.workers = 2


def test_refuses_a_setting_that_does_not_exist() -> None:
    unknown: Any = {"wrokers": 2}
    with pytest.raises(ValidationError, match="wrokers"):
        Settings(**unknown)


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_the_smallest_queue_holds_one_full_batch_request() -> None:
    assert Settings(queue_size=MAX_BATCH_ITEMS).queue_size == MAX_BATCH_ITEMS
    with pytest.raises(ValidationError, match="queue_size"):
        Settings(queue_size=MAX_BATCH_ITEMS - 1)
