"""The page for people at ``/``, and the files that it loads.

All of it is static and public: what it shows of a model it asks for over the API, with the key
that its user types in. It names everything relative to itself: a proxy may put a prefix before all
paths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.routing import Route

from churn_serving.http.kept import KeptPage

__all__ = ["INDEX", "WEB", "web_routes"]

INDEX: Final = "/"

_FOLDER: Final = Path(__file__).parents[1] / "web"
_PAGE: Final = "index.html"
_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_FILES: Final = {
    INDEX if file.name == _PAGE else f"/{_FOLDER.name}/{file.name}": file
    for file in sorted(_FOLDER.iterdir())
    if file.suffix in _TYPES
}

WEB: Final = frozenset(_FILES)
"""The paths of the page and of its files."""


def web_routes() -> list[Route]:
    """Return the routes of the page and of its files, which are read once."""
    return [Route(path, _kept(file).answer) for path, file in _FILES.items()]


def _kept(file: Path) -> KeptPage:
    return KeptPage(file.read_bytes(), policy=_POLICY, media_type=_TYPES[file.suffix])
