"""Interactive API documentation at ``/docs``, and the OpenAPI document behind it.

BentoML ships Swagger UI, but its own page loads a tracker from the internet: this page is ours.

The page names everything relative to itself: a proxy may put a prefix before all paths.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Final

from pydantic_core import to_json
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from churn_serving.http.openapi import JSON

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from churn_serving.http.openapi import Document

__all__ = ["ASSETS", "DOCS", "OPENAPI", "docs_routes"]

DOCS: Final = "/docs"
OPENAPI: Final = "/openapi.json"

_STYLE: Final = "static_content/swagger-ui.css"
_BUNDLE: Final = "static_content/swagger-ui-bundle.js"
_LIGHT_ICON: Final = "static_content/favicon-light-32x32.png"
_DARK_ICON: Final = "static_content/favicon-dark-32x32.png"
ASSETS: Final = tuple(f"/{name}" for name in (_STYLE, _BUNDLE, _LIGHT_ICON, _DARK_ICON))
"""What the page loads of BentoML's."""

# Collapsed: whoever comes sees the versions first, then routes, and no list of schemas.
_SCRIPT: Final = (
    f'SwaggerUIBundle({{url: "{OPENAPI[1:]}", dom_id: "#swagger-ui", tryItOutEnabled: true, '
    'docExpansion: "none", defaultModelsExpandDepth: -1});'
)
_SCRIPT_HASH: Final = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_PAGE_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "connect-src 'self'",
        "img-src 'self' data:",
        f"script-src 'self' 'sha256-{_SCRIPT_HASH}'",
        "style-src 'self' 'unsafe-inline'",  # Swagger UI styles its elements one by one
        "frame-ancestors 'none'",
    )
)
_PREFIX_HEADER: Final = "X-Forwarded-Prefix"
# Segments of unreserved letters, none of them "." or "..": a path of this host, whoever sent it.
_PREFIX: Final = re.compile(r"(?=.{1,256}\Z)(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+")
_PAGE: Final = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>churn-serving API</title>
<link rel="stylesheet" href="{_STYLE}">
<link rel="icon" type="image/png" href="{_LIGHT_ICON}" media="(prefers-color-scheme: light)">
<link rel="icon" type="image/png" href="{_DARK_ICON}" media="(prefers-color-scheme: dark)">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{_BUNDLE}"></script>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def docs_routes(document: Document) -> list[BaseRoute]:
    """Return the routes of the documentation.

    Args:
        document: What it documents.
    """
    written = document.kept(to_json)

    async def page(_: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _PAGE_POLICY})

    async def spec(request: Request) -> Response:
        # The document is kept as it is sent; the first of its members is each request's own.
        servers = to_json({"servers": [{"url": _base_of(request)}]})
        text = servers[:-1] + b"," + (await written())[1:]
        return Response(text, media_type=JSON, headers={"Vary": _PREFIX_HEADER})

    return [Route(DOCS, page), Route(OPENAPI, spec)]


def _base_of(request: Request) -> str:
    """Return the path below which the routes are found, or one relative to the document.

    The host that a request names is nobody's to trust.
    """
    announced = request.headers.getlist(_PREFIX_HEADER) or [request.scope.get("root_path", "")]
    prefix = ",".join(announced).removesuffix("/")
    return prefix if _PREFIX.fullmatch(prefix) else "."
