"""The card of the served model, at ``/model``."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["CARD", "card_route"]

CARD: Final = "/model"

# Whoever can write the model store can write this page. It may show itself, and no more: the
# sandbox takes scripts and forms from it, and its own origin.
# Which one style it has, the page itself says.
_POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox"
)


def card_route(card: bytes | None, tag: str) -> Route:
    """Return the route.

    Args:
        card: The page; None if the model has none.
        tag: The model's, for the sentence that is answered then.
    """
    if card is None:
        answer = {
            "error": f"The model '{tag}' was registered without a card; train or register it anew, "
            f"or write one of what is known of it with: churn model card {tag}",
            "detail": [],
        }

        async def missing(_: Request) -> Response:
            return JSONResponse(answer, HTTPStatus.NOT_FOUND)

        return Route(CARD, missing)
    etag = f'"{hashlib.sha256(card).hexdigest()}"'
    headers = {
        "Content-Security-Policy": _POLICY,
        "ETag": etag,
        "Cache-Control": "no-cache",  # kept, but asked about: another model may be served by now
    }

    async def page(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if etag in {each.strip().removeprefix("W/") for each in known.split(",")}:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return HTMLResponse(card, headers=headers)

    return Route(CARD, page)
