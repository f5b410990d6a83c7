"""The native lane: BentoML's own request path, held to the same contract as the fast lane.

BentoML answers what the fast lane does not know (the documentation, the probes, other content
types) and, with the fast lane switched off, everything. Its request limits and its error answers
differ from the contract, so requests are checked before it sees them and errors are rewritten
when it answers.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from churn_serving.errors import (
    ChurnServingError,
    NotReadyError,
    UnsupportedMediaTypeError,
)
from churn_serving.http.body import is_json
from churn_serving.http.endpoints import ENDPOINTS
from churn_serving.http.problems import (
    CLIENT_CLOSED_REQUEST,
    answer_to,
    answer_with,
    send_answer,
)
from churn_serving.http.routes import route_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from churn_serving.http.body import BodyReader
    from churn_serving.runtime.state import ServiceState

__all__ = ["NativeLane", "reported"]

_FIRST_ERROR_STATUS: Final = 400

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
        bodies: Reads the requests' bodies.
    """

    def __init__(self, app: ASGIApp, *, state: ServiceState, bodies: BodyReader) -> None:
        self._app = app
        self._state = state
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if scope["method"] == "POST" and scope["path"] in ENDPOINTS:
                receive = await self._checked(scope, receive)
        except ChurnServingError as error:
            await self._refuse(scope, send, error)
        else:
            await self._answer(scope, receive, send)

    async def _refuse(self, scope: Scope, send: Send, error: Exception) -> None:
        answer = answer_to(error, route=route_of(scope), metrics=self._state.metrics)
        await send_answer(send, answer)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        """Refuse what BentoML would take or answer differently; return the body, to be read again.

        Raises:
            ChurnServingError: What ``BodyReader.read`` and ``Endpoint.parse`` raise, a content type
                that is not JSON, or no model.
        """
        if self._state.predictor is None:
            raise NotReadyError(self._state.failure or "The model is not loaded.")
        headers = dict(scope["headers"])
        if not is_json(headers):
            raise UnsupportedMediaTypeError(
                "Send the body as JSON, with the header Content-Type: application/json."
            )
        body = await self._bodies.read(headers, receive)
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
        start: Message = {"status": CLIENT_CLOSED_REQUEST}

        async def send_unless_refused(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                # Whose software this is need not concern a stranger.
                start["headers"] = [pair for pair in start["headers"] if pair[0] != b"server"]
            if start["status"] < _FIRST_ERROR_STATUS:
                await send(message)

        try:
            await self._app(scope, receive, send_unless_refused)
        except Exception as error:
            if start["status"] < _FIRST_ERROR_STATUS:
                raise  # half an answer is out: only closing the connection can say so
            await self._refuse(scope, send, error)
            return
        status: int = start["status"]
        if errors:
            await self._refuse(scope, send, errors[-1])
        elif status >= _FIRST_ERROR_STATUS and status != CLIENT_CLOSED_REQUEST:
            # 405 must say what is allowed.
            kept = [header for header in start["headers"] if header[0] == b"allow"]
            await send_answer(send, answer_with(status, kept))
