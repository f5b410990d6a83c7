from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from churn_serving.errors import SettingsError
from churn_serving.schema import MAX_BATCH_ITEMS
from churn_serving.settings import ENV_PREFIX, Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path


DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the developer has set must not decide a test."""
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = load_settings()
    assert settings.model_tag == "churn_classifier"
    assert settings.decision_threshold is None
    assert settings.request_timeout_seconds == 5
    assert settings.max_body_bytes == 128 * 1024
    assert settings.max_batch_size == 256
    assert settings.drain_delay_seconds == 1
    assert settings.drain_seconds == 30
    assert settings.idle_timeout_seconds == 75
    assert settings.breaker_fails_readiness is False
    assert settings.log_level == "info"
    assert settings.log_format == "auto"
    assert settings.log_interval_seconds == 60


def test_nothing_is_open_that_an_operator_has_not_opened() -> None:
    settings = load_settings()
    assert settings.cors_origins == ()
    assert settings.cors_credentials is False
    assert settings.api_keys == ()
    assert settings.api_keys_file is None
    assert settings.metrics_public is False
    assert settings.allow_pickle is False
    assert settings.model_public_key_file is None


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
        ("DRAIN_DELAY_SECONDS", "0", 0.0),
        ("LOG_LEVEL", "debug", "debug"),
        ("LOG_FORMAT", "json", "json"),
        ("CORS_ORIGINS", "*", ("*",)),
        (
            "CORS_ORIGINS",
            "https://a.example.com, http://localhost:8080,",
            ("https://a.example.com", "http://localhost:8080"),
        ),
        ("API_KEYS", f"{DIGEST},{DIGEST}", (DIGEST, DIGEST)),
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
        ("DRAIN_DELAY_SECONDS", "-1"),
        ("DRAIN_SECONDS", "0"),
        ("DRAIN_SECONDS", "1.5"),
        ("IDLE_TIMEOUT_SECONDS", "0"),
        ("MAX_BODY_BYTES", "-1"),
        ("QUEUE_SIZE", "-100"),
        ("LOG_LEVEL", "verbose"),
        ("LOG_FORMAT", "xml"),
        ("LOG_INTERVAL_SECONDS", "0"),
        ("LOG_INTERVAL_SECONDS", "nan"),
        ("TOPOLOGY", "spread"),
        ("RUNNER_WORKERS", "0"),
        ("CORS_ORIGINS", ""),
        ("API_KEYS", ""),
        ("API_KEYS", " , "),
        ("CORS_ORIGINS", "example.com"),
        ("CORS_ORIGINS", "https://example.com/"),
        ("CORS_ORIGINS", "https://*.example.com"),
        ("CORS_ORIGINS", "null"),
        ("API_KEYS", "a-plain-key"),
        ("API_KEYS", f"{DIGEST},a-plain-key"),
        ("API_KEYS", "sha256:"),
        ("API_KEYS", DIGEST[:-1]),
        ("API_KEYS", f"{DIGEST}0"),
        ("API_KEYS", DIGEST.upper()),
        ("API_KEYS_FILE", "/there/is/no/such/file"),
        ("API_KEYS_FILE", "/"),
        ("MODEL_PUBLIC_KEY_FILE", "/there/is/no/such/file"),
        ("MODEL_PUBLIC_KEY_FILE", ""),
        ("ALLOW_PICKLE", "perhaps"),
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


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_the_message_is_one_line_and_does_not_repeat_the_value(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CHURN_{name.upper()}", "Secret 4711\n")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    message = str(refused.value)
    assert f"CHURN_{name.upper()}" in message
    assert "4711" not in message
    assert "\n" not in message
    assert message.endswith(".")
    # Nor does the error it came from, which a traceback would show.
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"CORS_CREDENTIALS": "true", "CORS_ORIGINS": "*"}, ("CORS_CREDENTIALS", "CORS_ORIGINS")),
        (
            {"CORS_CREDENTIALS": "true", "CORS_ORIGINS": "https://a.example.com,*"},
            ("CORS_CREDENTIALS", "CORS_ORIGINS"),
        ),
        ({"CORS_CREDENTIALS": "true"}, ("CORS_CREDENTIALS", "CORS_ORIGINS")),
        ({"METRICS_PUBLIC": "true"}, ("METRICS_PUBLIC", "API_KEYS")),
    ],
    ids=str,
)
def test_refuses_what_is_dangerous_together_by_the_names_of_both(
    variables: dict[str, str], named: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(f"CHURN_{name}", text)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    for name in named:
        assert f"CHURN_{name}" in str(refused.value)
    assert "example.com" not in str(refused.value)


def test_takes_together_what_belongs_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-plain-key\n")
    monkeypatch.setenv("CHURN_METRICS_PUBLIC", "true")
    monkeypatch.setenv("CHURN_API_KEYS_FILE", str(keys))
    monkeypatch.setenv("CHURN_CORS_ORIGINS", "https://a.example.com")
    monkeypatch.setenv("CHURN_CORS_CREDENTIALS", "true")
    settings = load_settings()
    assert settings.api_keys_file == keys
    assert settings.metrics_public
    assert settings.cors_credentials


def test_variables_of_others_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "77")
    monkeypatch.setenv("MODEL_TAG", "impossible tag")
    assert load_settings().workers != 77
    assert load_settings().model_tag == "churn_classifier"


def test_settings_cannot_be_changed_once_loaded() -> None:
    settings: Any = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.workers = 2


def test_refuses_a_setting_that_does_not_exist() -> None:
    unknown: Any = {"wrokers": 2}
    with pytest.raises(ValidationError, match="wrokers"):
        Settings(**unknown)


def test_the_smallest_queue_holds_one_full_batch_request() -> None:
    assert Settings(queue_size=MAX_BATCH_ITEMS).queue_size == MAX_BATCH_ITEMS
    with pytest.raises(ValidationError, match="queue_size"):
        Settings(queue_size=MAX_BATCH_ITEMS - 1)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("API_KEY", "API_KEYS"),
        ("WORKER", "WORKERS"),
        ("MAX_BODY_BYTE", "MAX_BODY_BYTES"),
        ("MODEL_PUBLIC_KEY", "MODEL_PUBLIC_KEY_FILE"),
        ("MODEL_PUBLICKEY_FILE", "MODEL_PUBLIC_KEY_FILE"),
        ("ALLOW_PICKLES", "ALLOW_PICKLE"),
    ],
)
def test_what_is_nearly_a_setting_is_refused_with_what_was_meant(
    misspelt: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CHURN_{misspelt}", "1")
    with pytest.raises(SettingsError, match=f"^CHURN_{misspelt} .* CHURN_{meant}[?]$"):
        load_settings()


@pytest.mark.parametrize("name", ["SERVING_PORT", "SERVING_SERVICE_HOST", "SERVING_PORT_3000_TCP"])
def test_what_kubernetes_sets_for_a_service_is_let_pass(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CHURN_{name}", "tcp://10.0.0.1:3000")
    load_settings()
