"""The edge: what is true of every request and every answer, whoever answers it.

A request gets an id and a deadline; an answer carries the id and says how it may be used. Both are
counted, and logged if that is switched on. Nothing is decided here about what is answered.
"""

from __future__ import annotations

import logging
import os
import re
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Final

from churn_serving.context import DEADLINE, REQUEST_ID
from churn_serving.errors import MalformedHeaderError
from churn_serving.http.docs import HTML_PAGES
from churn_serving.http.problems import CLIENT_CLOSED_REQUEST, send_error
from churn_serving.http.routes import route_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from churn_serving.http.problems import Header
    from churn_serving.http.state import ServiceState
    from churn_serving.settings import Settings

__all__ = ["Edge"]

logger = logging.getLogger(__name__)

_REQUEST_ID: Final = b"x-request-id"
_TIMEOUT: Final = b"x-request-timeout-ms"
# What may stand in a log line and in an answer.
_ACCEPTABLE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_MAX_TIMEOUT_DIGITS: Final = 9
_CLOSE: Final[Header] = (b"connection", b"close")
_NO_SNIFFING: Final[Header] = (b"x-content-type-options", b"nosniff")
# An answer to POST is neither kept nor shown as a page by a browser; what comes by GET may be. The
# documentation says itself what it may load, nothing else may load anything.
_NO_STORE: Final[Header] = (b"cache-control", b"no-store")
_NO_PAGE: Final[Header] = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'",
)


class Edge:
    """The outermost ASGI middleware.

    Args:
        app: Answers.
        state: Counts, and knows whether the service is draining.
        settings: The limits of a request.
    """

    def __init__(self, app: ASGIApp, *, state: ServiceState, settings: Settings) -> None:
        self._app = app
        self._state = state
        self._metrics = state.metrics
        self._seconds = settings.request_timeout_seconds
        self._access_log = settings.access_log
        self._prefix = os.urandom(6).hex()
        self._numbers = count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = perf_counter()
        headers = dict(scope["headers"])
        request_id = self._request_id(headers)
        REQUEST_ID.set(request_id)
        state = self._state
        status = CLIENT_CLOSED_REQUEST

        def send_from_here(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = [*message["headers"], (_REQUEST_ID, request_id.encode()), _NO_SNIFFING]
                if scope["method"] != "POST":
                    answer.append(_NO_STORE)
                    if scope["path"] not in HTML_PAGES:
                        answer.append(_NO_PAGE)
                if state.draining:
                    answer.append(_CLOSE)
                message["headers"] = answer
            return send(message)

        state.in_flight += 1
        try:
            DEADLINE.set(start + self._timeout(headers))
            await self._app(scope, receive, send_from_here)
        except MalformedHeaderError as error:
            await send_error(send_from_here, error, route=route_of(scope), metrics=self._metrics)
        finally:
            state.in_flight -= 1
            seconds = perf_counter() - start
            self._metrics.answered(route_of(scope), status, seconds)
            if self._access_log:
                _log(scope, status, seconds)

    def _request_id(self, headers: Mapping[bytes, bytes]) -> str:
        """Return the caller's id of the request, or one of ours: unique, and cheap to make."""
        given = headers.get(_REQUEST_ID)
        if given is not None and _ACCEPTABLE_ID.fullmatch(given):
            return given.decode()
        return f"{self._prefix}-{next(self._numbers):x}"

    def _timeout(self, headers: Mapping[bytes, bytes]) -> float:
        """Return the seconds until the deadline: ours, or less if the caller says so.

        Raises:
            MalformedHeaderError: What the caller says is not a number of milliseconds.
        """
        given = headers.get(_TIMEOUT)
        if given is None:
            return self._seconds
        if not given.isdigit() or len(given) > _MAX_TIMEOUT_DIGITS or int(given) == 0:
            raise MalformedHeaderError(
                "X-Request-Timeout-Ms must be a whole number of milliseconds, from 1."
            )
        return min(self._seconds, int(given) / 1e3)


def _log(scope: Scope, status: int, seconds: float) -> None:
    # Neither the query nor the body: both may hold a customer's data.
    logger.info(
        "Request",
        extra={
            "method": scope["method"],
            # Keeps a forged path from starting a line of its own.
            "path": scope["path"].encode("unicode_escape").decode(),
            "status": status,
            "ms": round(seconds * 1e3, 3),
        },
    )
