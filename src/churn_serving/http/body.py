"""Read a request body without ever holding more than the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from churn_serving.errors import BodyTooLargeError, BodyTooSlowError, ClientGoneError

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope

    from churn_serving.http.timeouts import SharedTimeout

__all__ = ["is_json", "read_body"]

_JSON: Final = b"application/json"


def is_json(scope: Scope) -> bool:
    """Tell whether the request says that its body is JSON."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            return bool(value == _JSON or value.partition(b";")[0].strip().lower() == _JSON)
    return False


async def read_body(
    scope: Scope, receive: Receive, *, limit: int, time_limit: SharedTimeout
) -> bytes:
    """Return the whole body.

    Args:
        scope: The request.
        receive: Where the body comes from.
        limit: Bytes at most, announced or received.
        time_limit: How long it may take to arrive.

    Raises:
        BodyTooLargeError: The body has more than ``limit`` bytes.
        BodyTooSlowError: The body was not complete in time.
        ClientGoneError: The client closed the connection first.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)
    try:
        with time_limit:
            message = await receive()
            # Nearly always the whole body is there at once.
            chunk = _chunk(message)
            if not message.get("more_body", False) and len(chunk) <= limit:
                return chunk
            body = bytearray(chunk)
            while len(body) <= limit and message.get("more_body", False):
                message = await receive()
                body += _chunk(message)
    except TimeoutError:
        raise BodyTooSlowError("The request body did not arrive in time.") from None
    if len(body) > limit:
        raise _too_large(limit)
    return bytes(body)


def _chunk(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGoneError("The client closed the connection.")
    chunk: bytes = message.get("body", b"")
    return chunk


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The request body is larger than {limit} bytes.")
