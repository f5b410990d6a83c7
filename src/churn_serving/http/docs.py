"""Interactive API documentation at ``/docs`` and ``/``, and the OpenAPI document behind it.

BentoML ships Swagger UI and generates a document; but its page loads a tracker from the internet
and its document describes BentoML's own errors, so page and document are ours.

The page names everything relative to itself: a proxy may put a prefix before all paths.
"""

from __future__ import annotations

import base64
import hashlib
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from churn_serving.http.api import ENDPOINTS
from churn_serving.http.problems import CLIENT_CLOSED_REQUEST, STATUS_OF, ErrorAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.json_schema import JsonSchemaMode
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

__all__ = ["ASSETS", "DOCS", "HTML_PAGES", "INDEX", "OPENAPI", "docs_routes", "openapi"]

INDEX: Final = "/"
DOCS: Final = "/docs"
OPENAPI: Final = "/openapi.json"
HTML_PAGES: Final = (INDEX, DOCS)

_STYLE: Final = "static_content/swagger-ui.css"
_BUNDLE: Final = "static_content/swagger-ui-bundle.js"
_LIGHT_ICON: Final = "static_content/favicon-light-32x32.png"
_DARK_ICON: Final = "static_content/favicon-dark-32x32.png"
ASSETS: Final = tuple(f"/{name}" for name in (_STYLE, _BUNDLE, _LIGHT_ICON, _DARK_ICON))
"""What the page loads of BentoML's."""

_SCRIPT: Final = (
    f'SwaggerUIBundle({{url: "{OPENAPI[1:]}", dom_id: "#swagger-ui", tryItOutEnabled: true}});'
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
_SECURITY_SCHEMES: Final = {
    "securitySchemes": {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
}
_PREFIX_HEADER: Final = "X-Forwarded-Prefix"
# Segments of unreserved letters, none of them "." or "..": a path of this host, whoever sent it.
_PREFIX: Final = re.compile(r"(?=.{1,256}\Z)(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+")
_REF: Final = "#/components/schemas/{model}"
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


def docs_routes(*, version: str, keys: bool) -> list[BaseRoute]:
    """Return the routes of the documentation.

    Args:
        version: The version of the package, shown on the page.
        keys: Whether requests need an API key.
    """
    document = openapi(version=version, keys=keys)

    async def page(_: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _PAGE_POLICY})

    async def spec(request: Request) -> Response:
        servers = [{"url": _base_of(request)}]
        return JSONResponse({**document, "servers": servers}, headers={"Vary": _PREFIX_HEADER})

    return [*(Route(path, page) for path in HTML_PAGES), Route(OPENAPI, spec)]


def openapi(*, version: str, keys: bool) -> dict[str, Any]:
    """Return the OpenAPI document of the JSON routes."""
    adapters: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = [
        (ErrorAnswer, "serialization", TypeAdapter(ErrorAnswer)),
    ]
    for endpoint in ENDPOINTS.values():
        adapters.append((endpoint.request, "validation", TypeAdapter(endpoint.request)))
        adapters.append((endpoint.response, "serialization", TypeAdapter(endpoint.response)))
    references, definitions = TypeAdapter.json_schemas(adapters, ref_template=_REF)
    paths = {}
    for path, endpoint in ENDPOINTS.items():
        paths[path] = {
            "post": {
                "operationId": endpoint.name,
                "summary": endpoint.summary,
                "requestBody": {
                    "required": True,
                    "content": _json(references[endpoint.request, "validation"]),
                },
                "responses": {
                    "200": {
                        "description": "The prediction.",
                        "content": _json(references[endpoint.response, "serialization"]),
                    },
                    **_errors(references[ErrorAnswer, "serialization"]),
                },
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "churn-serving",
            "version": version,
            "description": "Estimates how likely telecom customers are to leave. What the served "
            "model is for, and how good it is, stands on its [card](model).",
        },
        "paths": paths,
        "components": {"schemas": definitions["$defs"], **(_SECURITY_SCHEMES if keys else {})},
        **({"security": [{"bearer": []}, {"header": []}]} if keys else {}),
    }


def _base_of(request: Request) -> str:
    """Return the path below which the routes are found, or one relative to the document.

    The host that a request names is nobody's to trust.
    """
    announced = request.headers.getlist(_PREFIX_HEADER) or [request.scope.get("root_path", "")]
    prefix = ",".join(announced).removesuffix("/")
    return prefix if _PREFIX.fullmatch(prefix) else "."


def _errors(schema: Mapping[str, Any]) -> dict[str, Any]:
    statuses = sorted(set(STATUS_OF.values()) - {CLIENT_CLOSED_REQUEST})
    return {
        str(int(status)): {"description": HTTPStatus(status).phrase, "content": _json(schema)}
        for status in statuses
    }


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": dict(schema)}}
