"""Read the body, answer a constant as long as a real answer. Nothing in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

ANSWER: Final = (
    b'{"churn_prediction":1,"churn_probability":0.6123456789012345,'
    b'"model_tag":"churn_logistic:aaaaaaaaaaaaaaaa"}'
)
START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(ANSWER)).encode()),
    ],
}
BODY: Final = {"type": "http.response.body", "body": ANSWER}


async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
    """Answer any request."""
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(BODY)
