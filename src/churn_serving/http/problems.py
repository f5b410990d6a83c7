"""Errors as answers: the one place where an exception meets a status code."""

from __future__ import annotations

import logging
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Final, TypeAlias

from pydantic import BaseModel, Field
from pydantic_core import to_json

from churn_serving import errors
from churn_serving.errors import ChurnServingError
from churn_serving.http.body import outlasts_its_answer
from churn_serving.runtime.protocol import CLOSE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Send

    from churn_serving.errors import Failure
    from churn_serving.telemetry.metrics import Metrics

__all__ = [
    "CLIENT_CLOSED_REQUEST",
    "CONTENT_TYPE",
    "NOT_FOUND",
    "RETRYABLE",
    "STATUS_OF",
    "Answer",
    "ErrorAnswer",
    "Header",
    "answer_to",
    "answer_with",
    "early",
    "send_answer",
    "sentence_of",
]

logger = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's number for a request that nobody waits for any more; it is counted, never sent."""

STATUS_OF: Final[dict[type[ChurnServingError], int]] = {
    errors.RequestError: HTTPStatus.BAD_REQUEST,
    errors.MalformedBodyError: HTTPStatus.BAD_REQUEST,
    errors.MalformedHeaderError: HTTPStatus.BAD_REQUEST,
    errors.UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    errors.ClientGoneError: CLIENT_CLOSED_REQUEST,
    errors.BodyTooSlowError: HTTPStatus.REQUEST_TIMEOUT,
    errors.BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.ValidationFailedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.OverloadedError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.QueueFullError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.DeadlineUnreachableError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooManyBodiesError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.ShedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.BreakerOpenError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.RunnerUnreachableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceededError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.ScoringError: HTTPStatus.INTERNAL_SERVER_ERROR,
    # These stop the start; should one ever reach a request, it is not the caller's fault.
    errors.SettingsError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.PolicyError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.DataError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ModelError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ModelNotFoundError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ModelCorruptedError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ModelForeignError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ModelMismatchError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ModelPickledError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ModelStoreError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ModelUntrustedError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.UnsupportedEstimatorError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ChurnServingError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

_SENTENCES: Final[dict[int, str]] = {
    HTTPStatus.NOT_FOUND: "There is nothing at this path; see /docs.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This path does not take this method; see /docs.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The service is not ready.",
    HTTPStatus.GATEWAY_TIMEOUT: "The answer was not ready in time.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "An unexpected error happened; the server's log has it.",
}
RETRYABLE: Final = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_CHALLENGE: Final = (b"www-authenticate", b"Bearer")
_ACCEPTED_ENCODING: Final = (b"accept-encoding", b"identity")  # RFC 9110, 15.5.16
# The rest of the body may still come; nobody is going to read it.
_UNREAD: Final = (errors.BodyTooSlowError, errors.BodyTooLargeError, errors.TooManyBodiesError)

Header: TypeAlias = tuple[bytes, bytes]
Answer: TypeAlias = tuple[int, bytes, "Sequence[Header]"]
"""A complete JSON answer: its status, its body, and headers beside those of each answer."""

CONTENT_TYPE: Final[Header] = (b"content-type", b"application/json")


class ErrorDetail(BaseModel):
    """One reason why a request was refused; never holds the submitted value."""

    loc: list[str | int] = Field(description="Where in the body.")
    msg: str = Field(description="What was expected there.")
    type: str = Field(description="The kind of failure, for programs.")


class ErrorAnswer(BaseModel):
    """The body of every error."""

    error: str = Field(description="What is wrong, in one sentence.")
    detail: list[ErrorDetail] = Field(description="Each reason; empty for errors of the server.")


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a complete answer; none to a client that has gone."""
    status, body, headers = answer
    if status == CLIENT_CLOSED_REQUEST:
        return
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [CONTENT_TYPE, (b"content-length", b"%d" % len(body)), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


def answer_to(error: Exception, *, route: str, metrics: Metrics) -> Answer:
    """Count an error, log it if it is ours, and return the answer that the contract gives to it.

    An error that nobody foresaw has an answer without internals.
    """
    metrics.failed(route, error)
    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    headers: list[Header] = []
    detail: Sequence[Failure] = ()
    if isinstance(error, ChurnServingError):
        status = STATUS_OF[type(error)]
    if isinstance(error, errors.ShedError):
        metrics.shed(error)
        headers.append((b"retry-after", b"%d" % max(1, ceil(error.retry_after))))
    elif isinstance(error, errors.DeadlineExceededError):
        metrics.missed_deadline()
    elif isinstance(error, errors.UnauthorizedError):
        headers.append(_CHALLENGE)
    elif isinstance(error, errors.UnsupportedMediaTypeError):
        headers.append(_ACCEPTED_ENCODING)
    if isinstance(error, _UNREAD):
        headers.append(CLOSE)
    if isinstance(error, errors.RequestError):
        detail = error.detail
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("A request could not be answered", exc_info=error)
        return answer_with(status)
    return _problem(status, str(error), detail, headers)


def answer_with(status: int, headers: Sequence[Header] = ()) -> Answer:
    """Return the answer that the contract gives to a bare status."""
    return _problem(status, sentence_of(status), (), headers)


def sentence_of(status: int) -> str:
    """Return what the contract says about a bare status."""
    return _SENTENCES.get(status) or f"{HTTPStatus(status).phrase}."


def early(answer: Answer, request_headers: Mapping[bytes, bytes]) -> Answer:
    """Return an answer that is given before the request's body has been read.

    It ends the connection if the body is not soon over: the next request would wait behind it.
    """
    status, body, headers = answer
    if CLOSE in headers or not outlasts_its_answer(request_headers):
        return answer
    return status, body, (*headers, CLOSE)


def _problem(
    status: int, sentence: str, detail: Sequence[Failure], headers: Sequence[Header]
) -> Answer:
    if status in RETRYABLE and all(name != b"retry-after" for name, _ in headers):
        headers = [*headers, (b"retry-after", b"1")]
    return status, to_json({"error": sentence, "detail": list(detail)}), headers


NOT_FOUND: Final = answer_with(HTTPStatus.NOT_FOUND)
