"""What is known of the request that is being answered, for whoever in its task asks.

Set by ``churn_serving.http.edge``; read where an argument would have to pass through code that is
not ours: BentoML's API methods on the way to the queue, and every line of the log.
"""

from __future__ import annotations

from contextvars import ContextVar
from math import inf
from typing import Final

__all__ = ["REQUEST", "deadline", "request_id"]

# A plain tuple in one variable: this is set for each request.
REQUEST: Final[ContextVar[tuple[bytes, float] | None]] = ContextVar("request", default=None)
"""The request's id and its deadline."""


def request_id() -> str | None:
    """Return the caller's ``X-Request-ID``, or the one made for the request."""
    request = REQUEST.get()
    return None if request is None else request[0].decode()


def deadline() -> float:
    """Return when the answer must be there, on the clock of ``time.perf_counter``."""
    request = REQUEST.get()
    return inf if request is None else request[1]
