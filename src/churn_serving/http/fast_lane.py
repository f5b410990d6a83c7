"""The fast lane: the JSON routes, answered before BentoML's own machinery is entered.

BentoML's middlewares cost more than a prediction (a task and a timer for each request, labels
looked up for each metric). A JSON request to a known route needs none of that: its body is read,
validated, scored and answered here. Everything else falls through.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from pydantic_core import to_json

from churn_serving.errors import ClientGoneError
from churn_serving.http.body import is_json
from churn_serving.http.endpoints import ENDPOINTS
from churn_serving.http.problems import answer_to, early, send_answer

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from typing import Any

    from starlette.types import ASGIApp, Receive, Scope, Send

    from churn_serving.http.body import BodyReader
    from churn_serving.http.problems import Answer
    from churn_serving.runtime.state import ServiceState

__all__ = ["FastLane"]

T = TypeVar("T")


class FastLane:
    """Answers ``ENDPOINTS``.

    An ASGI middleware; but where nothing stands between them, ``churn_serving.http.edge`` asks for
    the answer and sends it itself, which saves two of its fifty microseconds.

    Args:
        app: Where everything else goes.
        state: Holds the predictor once the model is loaded.
        bodies: Reads the requests' bodies.
    """

    def __init__(self, app: ASGIApp, *, state: ServiceState, bodies: BodyReader) -> None:
        self.app = app
        self._state = state
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        answer = None
        if scope["type"] == "http":
            answer = await self.answer(scope, dict(scope["headers"]), receive)
        if answer is None:
            await self.app(scope, receive, send)
        else:
            await send_answer(send, answer)

    async def answer(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Answer | None:
        """Return the answer to a request, or None if somebody else must answer it."""
        path = scope["path"]
        endpoint = ENDPOINTS.get(path)
        predictor = self._state.predictor
        if (
            endpoint is None
            or predictor is None
            or scope["method"] != "POST"
            or not is_json(headers)
        ):
            return None
        read = False
        try:
            body = await self._bodies.read(headers, receive)
            read = True
            answering = endpoint.handle(predictor, endpoint.parse(body))
            if not predictor.runner.inline:
                answering = _unless_gone(answering, receive)
            return HTTPStatus.OK, to_json(await answering), ()
        except Exception as error:  # noqa: BLE001 - the last resort: an answer without internals
            answer = answer_to(error, route=path, metrics=self._state.metrics)
            return answer if read else early(answer, headers)


async def _unless_gone(answering: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Wait for the answer, but no longer than the client does.

    Raises:
        ClientGoneError: The client closed the connection; its rows have left the queue.
    """
    answer = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientGoneError("The client closed the connection.")
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()
