"""The edge: what is true of every request and every answer, whoever answers it.

A request gets an id and a deadline; an answer carries the id and says how it may be used. Both are
counted, and logged if that is switched on. Nothing is decided here about what is answered.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Final

from churn_serving.context import REQUEST
from churn_serving.errors import MalformedHeaderError, RequestError
from churn_serving.http.api import ENDPOINTS
from churn_serving.http.body import outlasts_its_answer
from churn_serving.http.pages import PAGES
from churn_serving.http.problems import (
    CLIENT_CLOSED_REQUEST,
    CONTENT_TYPE,
    NOT_FOUND,
    answer_to,
    early,
    send_answer,
)
from churn_serving.runtime.protocol import CLOSE, answer_at_once
from churn_serving.runtime.state import BENTOML_PROBES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from churn_serving.http.cors import Cors
    from churn_serving.http.keys import Keys
    from churn_serving.http.lane import Lane
    from churn_serving.http.problems import Answer, Header
    from churn_serving.runtime.state import ServiceState
    from churn_serving.settings import Settings

__all__ = ["Edge", "route_of"]

logger = logging.getLogger(__name__)

_REQUEST_ID: Final = b"x-request-id"
_TIMEOUT: Final = b"x-request-timeout-ms"
# What may stand in a log line and in an answer.
_ACCEPTABLE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_SINGLE: Final = {
    *(b"authorization", b"content-encoding", b"content-length", b"content-type", b"host"),
    *(b"origin", b"transfer-encoding", b"x-api-key", _TIMEOUT),
}
_MAX_TIMEOUT_DIGITS: Final = 9
_ROUTES: Final = {path: path for path in (*ENDPOINTS, *PAGES, *BENTOML_PROBES)}
_OTHER: Final = "other"
_NO_SNIFFING: Final[Header] = (b"x-content-type-options", b"nosniff")
# An answer to POST is neither kept nor shown as a page by a browser; what comes by GET may be. The
# documentation says itself what it may load, nothing else may load anything.
_NO_STORE: Final[Header] = (b"cache-control", b"no-store")
_NO_PAGE: Final[Header] = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'",
)


class Edge:
    """The outermost ASGI application.

    Args:
        lane: Answers the JSON routes; the edge sends its answers itself, which is two of fifty
            microseconds faster than a middleware would be.
        rest: Answers everything else.
        state: Counts, and knows whether the service is draining.
        settings: The limits of a request.
        keys: Knows who may come in; None: everybody.
        cors: Knows which pages of other origins may call; None: none.
    """

    def __init__(
        self,
        lane: Lane,
        rest: ASGIApp,
        *,
        state: ServiceState,
        settings: Settings,
        keys: Keys | None,
        cors: Cors | None,
    ) -> None:
        self._lane = lane
        self._rest = rest
        self._state = state
        self._metrics = state.metrics
        self._seconds = settings.request_timeout_seconds
        self._access_log = settings.access_log
        self._keys = keys
        self._cors = cors
        self._prefix = os.urandom(6).hex().encode()
        self._numbers = count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await (_refuse_websocket if scope["type"] == "websocket" else self._rest)(
                scope, receive, send
            )
            return
        start = perf_counter()
        state = self._state
        headers = dict(scope["headers"])
        request_id = self._id(headers)
        status: int = CLIENT_CLOSED_REQUEST
        state.in_flight += 1
        try:
            REQUEST.set((request_id, start + self._seconds))
            if self._cors is not None:
                send = self._cors.opened(scope, send)
                if (preflight := self._cors.preflight(scope)) is not None:
                    status = await self._pass_on(
                        preflight, scope, receive, send, request_id=request_id
                    )
                    return
            answer = self._refusal(scope, headers, request_id, start)
            if answer is None:
                answer = await self._lane.answer(scope, headers, receive)
            if answer is None:
                status = await self._pass_on(
                    self._rest, scope, receive, send, request_id=request_id
                )
                return
            status, body, more = answer
            if status == CLIENT_CLOSED_REQUEST:
                return
            length = b"content-length", b"%d" % len(body)
            own = self._headers([CONTENT_TYPE, length, *more], scope, request_id)
            # uvicorn would leave the body out of an answer to HEAD.
            if scope["method"] == "HEAD" or not answer_at_once(send, status, own, body):
                await send({"type": "http.response.start", "status": status, "headers": own})
                await send({"type": "http.response.body", "body": body})
        finally:
            state.in_flight -= 1
            seconds = perf_counter() - start
            self._metrics.answered(route_of(scope), status, seconds)
            if self._access_log:
                _log(scope, status, seconds)

    def _refusal(
        self, scope: Scope, headers: Mapping[bytes, bytes], request_id: bytes, start: float
    ) -> Answer | None:
        """Return the answer to a request that goes no further than here, or None."""
        try:
            if _TIMEOUT in headers:
                REQUEST.set((request_id, start + self._shortened(headers[_TIMEOUT])))
            if len(headers) != len(scope["headers"]):
                _refuse_twins(scope["headers"])
            if self._keys is not None:
                self._keys.check(scope["path"], headers)
        except RequestError as error:
            refused = answer_to(error, route=route_of(scope), metrics=self._metrics)
            return early(refused, headers)
        # Decoded, it would look like another path.
        if len(raw := scope["raw_path"]) != len(scope["path"]) and b"%2f" in raw.lower():
            return early(NOT_FOUND, headers)
        return None

    def _id(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Return the caller's id, if it is fit for a log, or a new one."""
        given = headers.get(_REQUEST_ID)
        if given is not None and _ACCEPTABLE_ID.fullmatch(given):
            return given
        return b"%b-%x" % (self._prefix, next(self._numbers))  # unique, and cheap to make

    async def _pass_on(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, request_id: bytes
    ) -> int:
        """Let an application answer; return the status of what it answers."""
        status: int = CLIENT_CLOSED_REQUEST
        # Whoever answers there does so without a look at the body.
        closing = [CLOSE] if outlasts_its_answer(dict(scope["headers"])) else []

        async def send_from_here(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [*message["headers"], *closing]
                message["headers"] = self._headers(own, scope, request_id)
            await send(message)

        try:
            await app(scope, receive, send_from_here)
        except Exception as error:  # noqa: BLE001 - the last resort
            answer = answer_to(error, route=route_of(scope), metrics=self._metrics)
            # Half an answer cannot be taken back; the server closes the connection after it.
            if status == CLIENT_CLOSED_REQUEST:
                await send_answer(send_from_here, answer)
        return status

    def _headers(self, headers: list[Header], scope: Scope, request_id: bytes) -> list[Header]:
        """Return an answer's headers, together with those that each answer has."""
        headers += [(_REQUEST_ID, request_id), _NO_SNIFFING]
        if scope["method"] != "POST":
            # A page says itself what it may do.
            said = {name for name, _ in headers}
            headers += [each for each in (_NO_STORE, _NO_PAGE) if each[0] not in said]
        if self._state.draining:
            headers.append(CLOSE)
        return headers

    def _shortened(self, given: bytes) -> float:
        """Return the seconds until the deadline: what the caller says, but no more than ours.

        Raises:
            MalformedHeaderError: That is not a number of milliseconds.
        """
        if not given.isdigit() or len(given) > _MAX_TIMEOUT_DIGITS or int(given) == 0:
            raise MalformedHeaderError(
                "X-Request-Timeout-Ms must be a whole number of milliseconds, from 1."
            )
        return min(self._seconds, int(given) / 1e3)


async def _refuse_websocket(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close"})


def _refuse_twins(headers: Iterable[Header]) -> None:
    """Refuse a request that has a header twice which decides how the request is read.

    Whoever stands before us may have taken the other one.

    Raises:
        MalformedHeaderError: It has; the message names the header.
    """
    for name, times in Counter(name for name, _ in headers).items():
        if times > 1 and name in _SINGLE:
            raise MalformedHeaderError(f"The header {name.decode().title()} is there twice.")


def route_of(scope: Scope) -> str:
    """Return the path if it is one of ours, so that strangers cannot make labels up."""
    return _ROUTES.get(scope["path"], _OTHER)


def _log(scope: Scope, status: int, seconds: float) -> None:
    # Neither the query nor the body nor a path of the caller's own making: each may hold a
    # customer's data.
    logger.info(
        "Request",
        extra={
            "method": scope["method"],
            "route": route_of(scope),
            "status": status,
            "ms": round(seconds * 1e3, 3),
        },
    )
