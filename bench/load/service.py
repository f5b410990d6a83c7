"""The service under load: one that runs somewhere, or one that is started for the test."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from bench.errors import BenchmarkError
from bench.load import CUSTOMERS
from bench.process import free_port, launched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bench.process import Running

__all__ = ["is_ready", "require_service", "started"]

PREDICT: Final = "/predict"
READINESS: Final = "/health/ready"
OK: Final = 200
UNAUTHORIZED: Final = 401
UNAVAILABLE: Final = 503
REDIRECTS: Final = (301, 302, 303, 307, 308)

_ANSWER_SECONDS: Final = 10


class _NoRedirects(HTTPRedirectHandler):
    """Locust follows none, either."""

    def redirect_request(self, *_: object) -> None:
        """Let the redirection be the answer."""


# As Locust: straight to the host.
_OPENER: Final = build_opener(ProxyHandler({}), _NoRedirects())


def is_ready(host: str) -> bool:
    """Say whether this service answers there, and is ready."""
    with suppress(OSError, HTTPException):
        status, answer = _ask(host + READINESS)
        return status == OK and "model_version" in answer
    return False


def require_service(host: str, key: str) -> None:
    """Look whether the service can be asked at all, before there is any load.

    Args:
        host: Where; scheme, name, port.
        key: The API key; empty, if there is none.

    Raises:
        BenchmarkError: It cannot; the text says what to do.
    """
    try:
        status, answer = _ask(host + READINESS)
        ours = "model_version" in answer
        if status == OK and ours:
            customer = CUSTOMERS.read_bytes().splitlines()[0]
            status, _ = _ask(host + PREDICT, customer, key)
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise BenchmarkError(f"Nothing answers at {host} ({reason}): is HOST right?") from None
    if status in REDIRECTS:
        raise BenchmarkError(f"{host} redirects: let HOST be the address that it leads to.")
    if not ours:
        raise BenchmarkError(f"What answers at {host} is not this service: is HOST right?")
    if status == UNAVAILABLE:
        raise BenchmarkError(f"The service at {host} is not ready: try again in a moment.")
    if status == UNAUTHORIZED:
        raise BenchmarkError(
            f"The service at {host} refuses the API key in CHURN_LOAD_API_KEY: set the right one."
            if key
            else f"The service at {host} wants an API key: set CHURN_LOAD_API_KEY to one."
        )


@contextmanager
def started(log: Path) -> Iterator[str]:
    """Run the service on a free port until the block ends, and yield its address.

    Args:
        log: Where its output goes.

    Raises:
        BenchmarkError: It did not start; the text has the end of its log.
    """
    port = free_port()
    serve = (sys.executable, "-m", "bentoml", "serve", "service.py:ChurnService")
    with launched(
        "The service",
        (*serve, "--host", "127.0.0.1", "--port", str(port)),
        port=port,
        environment=os.environ,
        log=log,
        is_ready=_require_ready,
    ) as here:
        yield here.origin


def _require_ready(here: Running) -> None:
    if not is_ready(here.origin):
        raise ConnectionError("not ready")


def _ask(url: str, body: bytes | None = None, key: str = "") -> tuple[int, Mapping[str, object]]:
    """Return the status of an answer, and its JSON object; an empty one if there is none."""
    headers = {"Content-Type": "application/json", "X-API-Key": key}
    request = Request(url, data=body, headers=headers)  # noqa: S310 - the command line takes http only
    try:
        answer = _OPENER.open(request, timeout=_ANSWER_SECONDS)
    except HTTPError as error:
        answer = error
    with answer:
        try:
            document = json.loads(answer.read())
        except ValueError:
            document = None
    return answer.status, document if isinstance(document, dict) else {}
