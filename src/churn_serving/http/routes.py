"""The paths this service knows, which are also the only ones its metrics name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from churn_serving.http.api import ENDPOINTS
from churn_serving.http.pages import PAGES

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = ["BENTOML_LIVENESS", "BENTOML_READINESS", "OTHER", "route_of"]

BENTOML_LIVENESS: Final = "/livez"
BENTOML_READINESS: Final = "/readyz"
OTHER: Final = "other"

_ROUTES: Final = {path: path for path in (*ENDPOINTS, *PAGES, BENTOML_LIVENESS, BENTOML_READINESS)}


def route_of(scope: Scope) -> str:
    """Return the path if it is one of ours, so that strangers cannot make labels up."""
    return _ROUTES.get(scope["path"], OTHER)
