"""The card of the served model, at ``/model``."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse
from starlette.routing import Route

from churn_serving.http.kept import KeptPage

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

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
    kept = KeptPage(card, policy=_POLICY)

    async def page(request: Request) -> Response:
        return kept.answer(request)

    return Route(CARD, page)
