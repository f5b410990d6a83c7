"""Read a JSON request body: no more than the limit, no longer than the deadline."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any, Final, TypeVar

from churn_serving.errors import BodyTooLargeError, BodyTooSlowError, ClientGoneError

if TYPE_CHECKING:
    from collections.abc import Generator

    from starlette.types import Message, Receive, Scope

__all__ = ["is_json", "read_body"]

T = TypeVar("T")

_JSON: Final = b"application/json"


def is_json(scope: Scope) -> bool:
    """Tell whether the request says that its body is JSON."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            return bool(value == _JSON or value.partition(b";")[0].strip().lower() == _JSON)
    return False


async def read_body(scope: Scope, receive: Receive, *, limit: int, seconds: float) -> bytes:
    """Return the whole body.

    Args:
        scope: The request.
        receive: Where the body comes from.
        limit: Bytes at most, announced or received.
        seconds: Time it may take to arrive.

    Raises:
        BodyTooLargeError: The body has more than ``limit`` bytes.
        BodyTooSlowError: The body was not complete in time.
        ClientGoneError: The client closed the connection first.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)
    # Nearly always the whole body is there at once. A timer would cost more than reading it, so
    # none is set before something has to be waited for.
    reading = receive().__await__()
    try:
        waits_for = reading.send(None)
    except StopIteration as done:
        message: Message = done.value
        if not message.get("more_body", False):
            return _limited(_chunk(message), limit)
        waiting = receive()
    else:
        message = {"type": "http.request"}
        waiting = _resumed(reading, waits_for)
    try:
        async with asyncio.timeout(seconds):
            body = bytearray(_chunk(message))
            while True:
                message = await waiting
                body += _chunk(message)
                if len(body) > limit or not message.get("more_body", False):
                    return _limited(bytes(body), limit)
                waiting = receive()
    except TimeoutError:
        raise BodyTooSlowError("The request body did not arrive in time.") from None


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


def _limited(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The request body is larger than {limit} bytes.")
