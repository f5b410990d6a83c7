"""A page, or a file of one, that browsers keep: sent once, and from then on only asked about."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["KeptPage"]


class KeptPage:
    """A page or a file, and who has it already.

    Args:
        text: What it holds, in UTF-8.
        policy: What it may load and do, its ``Content-Security-Policy``.
        media_type: What it is.
    """

    def __init__(self, text: bytes, *, policy: str, media_type: str = "text/html") -> None:
        self._text = text
        self._media_type = media_type
        self._etag = f'"{hashlib.sha256(text).hexdigest()}"'
        self._headers = {
            "Content-Security-Policy": policy,
            "ETag": self._etag,
            # Kept, but asked about: another release or model may be served by now.
            "Cache-Control": "no-cache",
        }

    def answer(self, request: Request) -> Response:
        """Return the page, or 304 to whoever has it."""
        known = request.headers.get("if-none-match", "")
        if self._etag in {each.strip().removeprefix("W/") for each in known.split(",")}:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=self._headers)
        return Response(self._text, headers=self._headers, media_type=self._media_type)
