"""The lane: how a JSON request becomes its answer, from bytes to bytes.

BentoML's own request path costs more than a prediction (a task and a timer for each request, labels
looked up for each metric), and refuses and fails in its own words. So the JSON routes are answered
here, with and without a model, and never reach it.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from churn_serving.errors import ClientGoneError, NotReadyError
from churn_serving.http.api import ENDPOINTS
from churn_serving.http.body import require_json
from churn_serving.http.problems import answer_to, answer_with, early

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from starlette.types import Receive, Scope

    from churn_serving.http.body import BodyReader
    from churn_serving.http.problems import Answer, Header
    from churn_serving.inference.prediction import Predictor
    from churn_serving.model.artifact import RegisteredModel
    from churn_serving.runtime.state import ServiceState

__all__ = ["Lane"]

T = TypeVar("T")

_NOT_POST: Final = answer_with(HTTPStatus.METHOD_NOT_ALLOWED, [(b"allow", b"POST")])


class Lane:
    """Answers the JSON routes.

    Args:
        state: Holds the predictor once the model is loaded.
        bodies: Reads the requests' bodies.
    """

    def __init__(self, *, state: ServiceState, bodies: BodyReader) -> None:
        self._state = state
        self._bodies = bodies
        self._model: RegisteredModel | None = None
        self._model_headers: tuple[Header, ...] = ()

    async def answer(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Answer | None:
        """Return the answer to a request, or None if the path is no JSON route."""
        path = scope["path"]
        endpoint = ENDPOINTS.get(path)
        if endpoint is None:
            return None
        if scope["method"] != "POST":
            return early(_NOT_POST, headers)
        read = False
        try:
            predictor = self._ready_predictor()
            require_json(headers)
            body = await self._bodies.read(headers, receive, endpoint.max_body_bytes)
            read = True
            scoring = endpoint.score(predictor, endpoint.parse(body))
            if not predictor.runner.inline:
                scoring = _unless_gone(scoring, receive)
            scored = await scoring
            if scored.model is not self._model:
                self._model = scored.model
                self._model_headers = ((b"x-model-version", scored.model.version.encode()),)
            return HTTPStatus.OK, endpoint.encode(endpoint.render(scored)), self._model_headers
        except Exception as error:  # noqa: BLE001 - the last resort: an answer without internals
            answer = answer_to(error, route=path, metrics=self._state.metrics)
            return answer if read else early(answer, headers)

    def _ready_predictor(self) -> Predictor:
        predictor = self._state.predictor
        if predictor is None:
            raise NotReadyError(self._state.failure or "The model is not loaded.")
        return predictor


async def _unless_gone(scoring: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Wait for the score, but no longer than the client does.

    Raises:
        ClientGoneError: The client closed the connection; its rows have left the queue.
    """
    scored = asyncio.ensure_future(scoring)
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({scored, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not scored.done():
            raise ClientGoneError("The client closed the connection.")
        return scored.result()
    finally:
        scored.cancel()
        gone.cancel()
