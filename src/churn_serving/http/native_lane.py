"""The native lane: BentoML's own request path, held to the same contract as the fast lane.

BentoML answers what the fast lane does not know (the documentation, the probes, other content
types) and, with the fast lane switched off, everything. Its request limits and its error answers
differ from the contract, so requests are checked before it sees them and errors are rewritten
when it answers.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from churn_serving.errors import (
    ChurnServingError,
    ClientGoneError,
    NotReadyError,
    UnsupportedMediaTypeError,
)
from churn_serving.http.body import is_json, read_body
from churn_serving.http.endpoints import ENDPOINTS
from churn_serving.http.problems import send_error, send_status
from churn_serving.http.timeouts import SharedTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from churn_serving.http.state import ServiceState
    from churn_serving.settings import Settings

__all__ = ["NativeLane", "reported"]

_FIRST_ERROR_STATUS = 400

# BentoML hides an exception behind its own answer; the request keeps it here for ours. A list,
# because BentoML runs the request in a task of its own, with a copy of the context.
_errors: ContextVar[list[ChurnServingError]] = ContextVar("errors")


@contextmanager
def reported() -> Iterator[None]:
    """Keep an error that a BentoML API method is about to raise, for the answer."""
    try:
        yield
    except ChurnServingError as error:
        if (errors := _errors.get(None)) is not None:
            errors.append(error)
        raise


class NativeLane:
    """An ASGI middleware that holds BentoML to the contract.

    Args:
        app: BentoML's own application.
        state: Holds the predictor once the model is loaded.
        settings: The limits of a request.
    """

    def __init__(self, app: ASGIApp, *, state: ServiceState, settings: Settings) -> None:
        self._app = app
        self._state = state
        self._max_body_bytes = settings.max_body_bytes
        self._body_timeout = SharedTimeout(settings.request_timeout_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if scope["method"] == "POST" and scope["path"] in ENDPOINTS:
                receive = await self._checked(scope, receive)
        except ClientGoneError:
            return
        except ChurnServingError as error:
            await send_error(send, error)
            return
        await self._answer(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        """Refuse what BentoML would take or answer differently; return the body, to be read again.

        Raises:
            ChurnServingError: What ``read_body`` and ``Endpoint.parse`` raise, a content type that
                is not JSON, or no model.
        """
        if self._state.predictor is None:
            raise NotReadyError("The model is not loaded.")
        if not is_json(scope):
            raise UnsupportedMediaTypeError(
                "Send the body as JSON, with the header Content-Type: application/json."
            )
        body = await read_body(
            scope, receive, limit=self._max_body_bytes, time_limit=self._body_timeout
        )
        ENDPOINTS[scope["path"]].parse(body)
        unread = True

        async def receive_again() -> Message:
            nonlocal unread
            if unread:
                unread = False
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        return receive_again

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass BentoML's answer on, but write an error as the contract has it."""
        errors: list[ChurnServingError] = []
        _errors.set(errors)
        refused: Message | None = None

        async def send_unless_refused(message: Message) -> None:
            nonlocal refused
            if (
                message["type"] == "http.response.start"
                and message["status"] >= _FIRST_ERROR_STATUS
            ):
                refused = message
            if refused is None:
                await send(message)

        await self._app(scope, receive, send_unless_refused)
        if refused is None:
            return
        if errors:
            await send_error(send, errors[-1])
        else:
            # 405 must say what is allowed.
            kept = [header for header in refused["headers"] if header[0] == b"allow"]
            await send_status(send, refused["status"], kept)
