"""The queries of the shipped dashboard, asked of a Prometheus as Grafana asks them."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx

from deploy.grafana.dashboard import DASHBOARD, Json

__all__ = ["ask", "filled", "load_dashboard"]

PATIENCE_SECONDS: Final = 30
VARIABLES: Final = {"$job": "churn-serving", "$instance": ".*"}


def load_dashboard() -> Json:
    """Return the dashboard as Grafana reads it."""
    loaded: Json = json.loads(DASHBOARD.read_text())
    return loaded


def filled(query: str, *, rate_interval: str = "15s") -> str:
    """Return a query without variables: all instances, and rates over so long."""
    for name, value in (VARIABLES | {"$__rate_interval": rate_interval}).items():
        query = query.replace(name, value)
    return query


def ask(
    url: str, target: Json, *, start: float, end: float, step: float, rate_interval: str = "15s"
) -> list[dict[str, Any]]:
    """Return the series that a panel's target has.

    Args:
        url: Of Prometheus.
        target: From the dashboard.
        start: Unix time.
        end: Unix time; what is shown as it is now, is as it was then.
        step: Seconds from one point to the next.
        rate_interval: Rates are over so long.

    Raises:
        ValueError: Prometheus does not understand the query.
    """
    query = filled(target["expr"], rate_interval=rate_interval)
    if target.get("instant"):
        path, when = "query", {"time": end}
    else:
        path, when = "query_range", {"start": start, "end": end, "step": step}
    answer = httpx.get(
        f"{url}/api/v1/{path}", params={"query": query, **when}, timeout=PATIENCE_SECONDS
    ).json()
    if answer["status"] != "success":
        raise ValueError(f"{answer['error']}: {query}")
    series: list[dict[str, Any]] = answer["data"]["result"]
    return series
