"""A line for each request, when it is switched on."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["access_logged"]

logger = logging.getLogger(__name__)


def access_logged(app: ASGIApp) -> ASGIApp:
    """Return the application with a log line after each request: method, path, status, time.

    Neither the query nor the body is logged: both may hold a customer's data.
    """

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        start = perf_counter()
        status: int | None = None

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            await app(scope, receive, send_and_note)
        finally:
            logger.info(
                "%s %s %s %.3f ms",
                scope["method"],
                # Keeps a forged path from starting a line of its own.
                scope["path"].encode("unicode_escape").decode(),
                status if status is not None else "unanswered",
                (perf_counter() - start) * 1e3,
            )

    return logged
