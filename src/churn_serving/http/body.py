"""Read a JSON request body: no more than the limit, no longer than the deadline."""

from __future__ import annotations

import asyncio
import types
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from churn_serving.context import deadline
from churn_serving.errors import (
    BodyTooLargeError,
    BodyTooSlowError,
    ClientGoneError,
    TooManyBodiesError,
    UnsupportedMediaTypeError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Mapping

    from starlette.types import Message, Receive

__all__ = ["BodyReader", "outlasts_its_answer", "require_json"]

T = TypeVar("T")

MAX_DRAINED_BYTES: Final = 1024**2
"""Less than this is sooner thrown away than a connection is made anew."""

MAX_WAITING_BYTES: Final = 64 * 1024**2
"""Each body that is waited for holds memory for as long as a request may take: this, if all become
as large as they may."""

_NO_ENCODINGS: Final = (b"", b"identity")
_JSON: Final = b"application/json"


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Let a request pass that says its body is JSON, as it is.

    Raises:
        UnsupportedMediaTypeError: It says something else, or nothing, or that it is compressed.
    """
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in _NO_ENCODINGS:
        raise UnsupportedMediaTypeError(
            "Send the body as it is: no Content-Encoding is taken but identity."
        )
    value = headers.get(b"content-type", b"")
    if value != _JSON and value.partition(b";")[0].strip().lower() != _JSON:
        raise UnsupportedMediaTypeError(
            "Send the body as JSON, with the header Content-Type: application/json."
        )


def outlasts_its_answer(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether an unread body is too much to be thrown away quietly after an early answer.

    Then the answer must say ``Connection: close``. A client that waits for ``100 Continue`` may
    never send its body: a next request could not be told from it.
    """
    if b"transfer-encoding" in headers or b"expect" in headers:
        return True
    length = headers.get(b"content-length")
    return length is not None and not (length.isdigit() and int(length) <= MAX_DRAINED_BYTES)


class BodyReader:
    """Reads bodies.

    Args:
        max_bytes: Of one body, announced or received, where its route does not say otherwise.
        max_waiting: Bytes that those bodies may come to together that are waited for.
    """

    def __init__(self, *, max_bytes: int, max_waiting: int = MAX_WAITING_BYTES) -> None:
        self._max_bytes = max_bytes
        self._max_waiting = max_waiting
        self._waiting = 0

    async def read(
        self, headers: Mapping[bytes, bytes], receive: Receive, max_bytes: int | None = None
    ) -> bytes:
        """Return the whole body.

        Args:
            headers: The request's.
            receive: Where it comes from.
            max_bytes: What the route allows; None: as much as most.

        Raises:
            BodyTooLargeError: The body has too many bytes.
            BodyTooSlowError: The body was not complete before the request's deadline.
            ClientGoneError: The client closed the connection first.
            TooManyBodiesError: The body would have to be waited for, and too many are.
        """
        limit = max_bytes or self._max_bytes
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        # Nearly always the whole body is there at once. A timer would cost more than reading it,
        # so none is set before something has to be waited for.
        reading = receive().__await__()
        body = bytearray()
        waiting: Awaitable[Message] | None = None
        try:
            waits_for = reading.send(None)
        except StopIteration as done:
            message: Message = done.value
            if not message.get("more_body", False):
                return _limited(_chunk(message), limit)
            body += _chunk(message)
        else:
            waiting = _resumed(reading, waits_for)
        if self._waiting and self._waiting + limit > self._max_waiting:
            reading.close()
            raise TooManyBodiesError("Too many request bodies are arriving piece by piece.")
        self._waiting += limit
        try:
            async with asyncio.timeout(deadline() - perf_counter()):
                while True:
                    message = await (waiting or receive())
                    waiting = None
                    body += _chunk(message)
                    if len(body) > limit or not message.get("more_body", False):
                        return _limited(bytes(body), limit)
        except TimeoutError:
            raise BodyTooSlowError("The request body did not arrive in time.") from None
        finally:
            self._waiting -= limit


def _limited(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The request body is larger than {limit} bytes.")


@types.coroutine
def _resumed(steps: Generator[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """Await something that has already been run up to its first wait."""
    try:
        try:
            sent = yield waits_for
        except BaseException as error:  # noqa: BLE001 - passed on, as await itself does
            waits_for = steps.throw(error)
        else:
            waits_for = steps.send(sent)
    except StopIteration as done:
        result: T = done.value
        return result
    return (yield from _resumed(steps, waits_for))


def _chunk(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGoneError("The client closed the connection.")
    chunk: bytes = message.get("body", b"")
    return chunk
