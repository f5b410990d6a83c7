"""What is no JSON route: the pages, the few paths that BentoML answers, and 404.

Nothing reaches BentoML but what is listed here. What else it knows (a document made anew at each
GET, redirects to whatever ``Host`` says) costs the event loop, or trusts the caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from churn_serving.http.docs import ASSETS
from churn_serving.http.pages import PATHS
from churn_serving.http.problems import (
    CLIENT_CLOSED_REQUEST,
    NOT_FOUND,
    answer_with,
    send_answer,
)
from churn_serving.runtime.state import BENTOML_PROBES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Fallback"]

_BENTOML: Final = {*BENTOML_PROBES, *ASSETS}
_FIRST_ERROR_STATUS: Final = 400


class Fallback:
    """An ASGI application for what the lane does not know.

    Args:
        pages: Answers what is listed in ``churn_serving.http.pages``.
        bentoml: BentoML's own application; it also runs the service's start and end.
    """

    def __init__(self, *, pages: ASGIApp, bentoml: ASGIApp) -> None:
        self._pages = pages
        self._bentoml = bentoml

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._bentoml(scope, receive, send)
        elif scope["path"] in PATHS:
            await self._pages(scope, receive, send)
        elif scope["path"] in _BENTOML:
            await self._let_through(scope, receive, send)
        else:
            await send_answer(send, NOT_FOUND)

    async def _let_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let BentoML answer, but write an error as the contract has it."""
        start: Message = {"status": CLIENT_CLOSED_REQUEST}

        async def send_unless_refused(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                # Whose software this is need not concern a stranger.
                start["headers"] = [pair for pair in start["headers"] if pair[0] != b"server"]
            if start["status"] < _FIRST_ERROR_STATUS:
                await send(message)

        # None of these paths means anything by a query, and not every part of BentoML survives one
        # that is not UTF-8.
        await self._bentoml({**scope, "query_string": b""}, receive, send_unless_refused)
        status: int = start["status"]
        if status >= _FIRST_ERROR_STATUS and status != CLIENT_CLOSED_REQUEST:
            # 405 must say what is allowed.
            kept = [header for header in start["headers"] if header[0] == b"allow"]
            await send_answer(send, answer_with(status, kept))
