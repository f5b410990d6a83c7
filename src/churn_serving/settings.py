"""Settings from the environment (prefix ``CHURN_``), validated before anything starts.

An instance is made once, by ``service.py``, and passed to whoever needs it.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import Annotated, Final, Literal, Self, TypeAlias

import joblib
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from churn_serving.errors import SettingsError

__all__ = ["ENV_PREFIX", "Settings", "available_cpus", "load_settings"]

ENV_PREFIX = "CHURN_"


def available_cpus() -> int:
    """Return the CPUs this process may use: affinity and cgroup limits respected."""
    return int(joblib.cpu_count())


_NEARLY: Final = 0.9
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
    return value


def _is_origin(value: str) -> str:
    if value != "*" and not _ORIGIN.fullmatch(value):
        raise ValueError("each must be an origin like https://app.example.com, or * for any")
    return value


CommaSeparated: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """What an operator may decide; each field is the environment variable ``CHURN_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, protected_namespaces=()
    )

    workers: Annotated[int, Field(ge=1, description="Server processes.")] = Field(
        default_factory=available_cpus
    )
    model_tag: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9][a-z0-9_.-]*(:[a-z0-9][a-z0-9_.-]*)?$",
            description="The registered model to serve, name:version.",
        ),
    ] = "churn_classifier:latest"
    decision_threshold: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Probabilities from here on are predicted as churn; "
            "unset: the threshold stored with the model.",
        ),
    ] = None
    request_timeout_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=300,
            description="From a request's header to its answer: a later body gets 408, a later "
            "answer 504; X-Request-Timeout-Ms may shorten it.",
        ),
    ] = 5.0
    idle_timeout_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=86_400,
            description="A connection is kept open between two requests; let it be longer than "
            "the load balancer's.",
        ),
    ] = 75
    drain_delay_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=300,
            description="After SIGTERM: requests are still taken, but readiness says 503 and "
            "connections are told to close.",
        ),
    ] = 1.0
    drain_seconds: Annotated[
        int,
        Field(ge=1, le=3600, description="After that: for requests in flight to be answered."),
    ] = 30
    # A full batch has about 25 KB; validating a megabyte of unknown fields would take a third of a
    # second, in which nobody else is answered.
    max_body_bytes: Annotated[int, Field(ge=1024, description="Larger request bodies get 413.")] = (
        128 * 1024
    )
    max_batch_size: Annotated[
        int, Field(ge=1, le=100_000, description="Customers scored in one call of the model.")
    ] = 256
    queue_size: Annotated[
        int,
        # A request for a full batch of customers must fit.
        Field(ge=100, description="Customers that may wait for the model; more get 429."),
    ] = 4096
    breaker_fails_readiness: Annotated[
        bool, Field(description="Not ready while the breaker is open.")
    ] = False
    topology: Annotated[
        Literal["embedded", "split"],
        Field(
            description="embedded: the model runs in each server process; "
            "split: in a service of its own, ChurnRunner.",
        ),
    ] = "embedded"
    runner_workers: Annotated[
        int, Field(ge=1, description="Processes of ChurnRunner in the split topology.")
    ] = 1
    api_keys: Annotated[
        CommaSeparated,
        AfterValidator(lambda keys: tuple(map(_is_key_digest, keys))),
        Field(description="sha256:DIGEST of each API key, with commas; none: no key is asked for."),
    ] = ()
    api_keys_file: Annotated[
        FilePath | None,
        Field(description="A file with one key, or its sha256:DIGEST, in each line."),
    ] = None
    metrics_public: Annotated[
        bool, Field(description="/metrics needs no API key, as /health never does.")
    ] = False
    cors_origins: Annotated[
        CommaSeparated,
        AfterValidator(lambda origins: tuple(map(_is_origin, origins))),
        Field(description="Origins whose pages may call, with commas; none: only our own."),
    ] = ()
    cors_credentials: Annotated[
        bool, Field(description="Their browsers may send credentials along.")
    ] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="debug logs each prediction."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "console"], Field(description="auto: console on a terminal.")
    ] = "auto"
    log_interval_seconds: Annotated[
        float, Field(gt=0, description="Between two lines about the traffic.")
    ] = 60.0
    access_log: Annotated[bool, Field(description="Log a line for each request.")] = False
    tracing: Annotated[
        bool,
        Field(description="Send OpenTelemetry spans (OTEL_EXPORTER_OTLP_ENDPOINT says where)."),
    ] = False

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
            for meant in get_close_matches(name, known, n=1, cutoff=_NEARLY):
                raise SettingsError(f"{name} is no setting; did you mean {meant}?")
