"""Which pages of other origins a browser lets call the service, when there are any."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope, Send

    from churn_serving.settings import Settings

__all__ = ["Cors"]

_ALLOWED_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "X-API-Key",
    "X-Request-ID",
    "X-Request-Timeout-Ms",
)


class Cors:
    """Starlette's rules, as steps of the edge: its middleware would stand around or behind it.

    Args:
        settings: Names the origins.
    """

    def __init__(self, settings: Settings) -> None:
        self._rules = CORSMiddleware(
            _no_application,
            allow_origins=settings.cors_origins,
            allow_credentials=settings.cors_credentials,
            allow_methods=("GET", "POST"),
            allow_headers=_ALLOWED_HEADERS,
            expose_headers=("X-Request-ID", "X-Model-Version", "Retry-After"),
        )

    def preflight(self, scope: Scope) -> ASGIApp | None:
        """Return the answer to a browser that asks whether a page may call, if this is one."""
        headers = Headers(scope=scope)
        if (
            scope["method"] != "OPTIONS"
            or "origin" not in headers
            or "access-control-request-method" not in headers
        ):
            return None
        return self._rules.preflight_response(request_headers=headers)

    def opened(self, scope: Scope, send: Send) -> Send:
        """Return ``send``, which then tells the browser who may read the answer."""
        headers = Headers(scope=scope)
        if "origin" not in headers:
            return send
        return partial(self._rules.send, send=send, request_headers=headers)


async def _no_application(*_: object) -> None:
    raise AssertionError("only the rules of the middleware are used")
