"""Settings from the environment (prefix ``CHURN_``), validated before anything starts.

An instance is made once, by ``service.py``, and passed to whoever needs it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import joblib
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from churn_serving.errors import SettingsError

__all__ = ["ENV_PREFIX", "Settings", "available_cpus", "load_settings"]

ENV_PREFIX = "CHURN_"


def available_cpus() -> int:
    """Return the CPUs this process may use: affinity and cgroup limits respected."""
    return int(joblib.cpu_count())


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
        Field(gt=0, le=300, description="For a body to arrive (408), then for its answer (504)."),
    ] = 5.0
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
    fast_lane: Annotated[
        bool,
        Field(description="false: answer through BentoML's own request path; same answers."),
    ] = True
    access_log: Annotated[bool, Field(description="Log a line for each request.")] = False
    tracing: Annotated[
        bool,
        Field(description="Send OpenTelemetry spans (OTEL_EXPORTER_OTLP_ENDPOINT says where)."),
    ] = False


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: A variable has an impossible value; the message names each one.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"{ENV_PREFIX}{str(failure['loc'][0]).upper()}: {failure['msg']}"
            for failure in error.errors(include_url=False, include_input=False)
        )
        raise SettingsError(f"Impossible settings. {problems}.") from None
