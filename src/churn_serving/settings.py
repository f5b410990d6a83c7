"""Settings from the environment (prefix ``CHURN_``), validated before anything starts.

An instance is made once, by ``service.py``, and passed to whoever needs it.
"""

from __future__ import annotations

import hashlib
import os
import re
from difflib import get_close_matches
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from churn_serving.cpus import available_cpus
from churn_serving.errors import SettingsError

__all__ = ["DIGEST_OF_NOTHING", "ENV_PREFIX", "Settings", "load_settings"]

ENV_PREFIX = "CHURN_"


_NEARLY: Final = 0.9
DIGEST_OF_NOTHING: Final = f"sha256:{hashlib.sha256().hexdigest()}"
_KEY_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ORIGIN: Final = re.compile(r"https?://[^/\s,*]+")


def _split(value: object) -> object:
    """Read a list as operators write it: with commas."""
    if isinstance(value, str):
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
        if not parts:  # a secret that was not filled in must not open the door
            raise ValueError("is set, but empty; leave it out instead")
        return parts
    return value


def _is_key_digest(value: str) -> str:
    # A key itself would stand in process listings and crash reports.
    if not _KEY_DIGEST.fullmatch(value):
        raise ValueError("each must be sha256: and 64 hexadecimal digits; make api-key writes one")
    if value == DIGEST_OF_NOTHING:
        raise ValueError("one is the digest of an empty key, which everybody has")
    return value


def _is_origin(value: str) -> str:
    if value != "*" and not _ORIGIN.fullmatch(value):
        raise ValueError("each must be an origin like https://app.example.com, or * for any")
    return value


CommaSeparated: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """What an operator may decide; each field is the environment variable ``CHURN_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
    )

    workers: Annotated[int, Field(ge=1)] = Field(default_factory=available_cpus)
    """Server processes; each uses at most one CPU."""

    model_tag: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*(:[a-z0-9][a-z0-9_.-]*)?$")] = (
        "churn_classifier"
    )
    """The registered model to serve, as name:version. Without a version: the champion that was
    promoted, or else the latest.
    """

    model_public_key_file: FilePath | None = None
    """The public key of whoever signs models. Set: a model without its signature is not served.
    Unset: no signature is looked at.
    """

    allow_pickle: bool = False
    """Whether a model that only scikit-learn can run may be served. Loading it can run any code,
    and the service must have scikit-learn.
    """

    decision_threshold: Annotated[float | None, Field(ge=0, le=1)] = None
    """A customer whose churn probability reaches this is predicted to leave. Unset: the threshold
    stored with the model.
    """

    policy_file: FilePath | None = None
    """What a customer, an offer and a contact cost, and how many leavers accept: a JSON or TOML
    file, by which /api/v2 decides whom to contact. Unset: the figures of Verbraken et al. (2013).
    """

    request_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 5.0
    """How long a request may take, from its header to its answer. If its body is not complete by
    then, the answer is 408; if the model is not done, 504. A caller may ask for less with
    X-Request-Timeout-Ms.
    """

    idle_timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = 75
    """How long an unused connection stays open. Choose more than your load balancer does."""

    drain_delay_seconds: Annotated[float, Field(ge=0, le=300)] = 1.0
    """How long the service still takes requests after SIGTERM. Meanwhile readiness answers 503, and
    connections are told to close.
    """

    drain_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """How long requests in flight have after that to be answered."""

    # A full batch has about 25 KB; validating a megabyte of unknown fields would take a third of a
    # second, in which nobody else is answered.
    max_body_bytes: Annotated[int, Field(ge=1024)] = 128 * 1024
    """The largest request body, but for /api/v2/predict/batch, which takes a megabyte. A larger one
    gets 413.
    """

    max_batch_size: Annotated[int, Field(ge=1, le=100_000)] = 256
    """The most customers that one call of the model scores."""

    # A request for a full batch of customers must fit.
    queue_size: Annotated[int, Field(ge=100)] = 4096
    """The most customers that may wait for the model. A request beyond that gets 429."""

    breaker_fails_readiness: bool = False
    """Whether readiness answers 503 while the circuit breaker is open."""

    topology: Literal["embedded", "split"] = "embedded"
    """Where the model runs. embedded: in each server process; split: in a service of its own,
    ChurnRunner.
    """

    runner_workers: Annotated[int, Field(ge=1)] = 1
    """Processes of ChurnRunner in the split topology."""

    api_keys: Annotated[
        CommaSeparated, AfterValidator(lambda keys: tuple(map(_is_key_digest, keys)))
    ] = ()
    """The API keys that are accepted, each as sha256:DIGEST, separated by commas. None: callers
    need no key.
    """

    api_keys_file: FilePath | None = None
    """A file with API keys, one in each line: the key itself, or its sha256:DIGEST."""

    metrics_public: bool = False
    """Whether /metrics may be read without an API key."""

    cors_origins: Annotated[
        CommaSeparated, AfterValidator(lambda origins: tuple(map(_is_origin, origins)))
    ] = ()
    """The web origins whose pages may call the service, separated by commas. None: only its own
    page may.
    """

    cors_credentials: bool = False
    """Whether browsers may send cookies and other credentials from those origins."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe lines that are logged. debug also logs each prediction."""

    log_format: Literal["auto", "json", "console"] = "auto"
    """How log lines look. auto: console on a terminal, json elsewhere."""

    log_interval_seconds: Annotated[float, Field(gt=0)] = 60.0
    """How often each worker logs what it has done."""

    access_log: bool = False
    """Whether each request gets a log line."""

    tracing: bool = False
    """Whether OpenTelemetry spans are sent. OTEL_EXPORTER_OTLP_ENDPOINT says where."""

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.cors_credentials and "*" in self.cors_origins:
            raise ValueError(
                f"{ENV_PREFIX}CORS_CREDENTIALS with {ENV_PREFIX}CORS_ORIGINS=* would let any page "
                "act for a signed-in user; name the origins"
            )
        if self.cors_credentials and not self.cors_origins:
            raise ValueError(f"{ENV_PREFIX}CORS_CREDENTIALS needs {ENV_PREFIX}CORS_ORIGINS")
        if self.metrics_public and not (self.api_keys or self.api_keys_file):
            raise ValueError(
                f"{ENV_PREFIX}METRICS_PUBLIC means nothing without {ENV_PREFIX}API_KEYS"
            )
        return self


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: A variable has an impossible value; the message names each one.
    """
    _refuse_misspelt()
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            ": ".join(
                (*(f"{ENV_PREFIX}{str(part).upper()}" for part in failure["loc"][:1]), message)
            )
            for failure in error.errors(include_url=False, include_input=False)
            if (message := failure["msg"].removeprefix("Value error, "))
        )
        raise SettingsError(f"Impossible settings. {problems}.") from None


def _refuse_misspelt() -> None:
    """Refuse variables that are nearly settings; others are somebody else's, like Kubernetes's.

    Raises:
        SettingsError: There is one; the message names it, and what it should be.
    """
    known = [f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and name not in known:
            # A forgotten _FILE is less alike than that, and would silently switch a check off.
            forgotten = [meant for meant in known if meant == f"{name}_FILE"]
            for meant in forgotten or get_close_matches(name, known, n=1, cutoff=_NEARLY):
                raise SettingsError(f"{name} is no setting; did you mean {meant}?")
