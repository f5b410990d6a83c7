"""What is known of the request that is being answered, for whoever in its task asks.

Set by ``churn_serving.http.edge``; read where an argument would have to pass through code that is
not ours: BentoML's API methods on the way to the queue, and every line of the log.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

__all__ = ["DEADLINE", "REQUEST_ID"]

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""The caller's ``X-Request-ID``, or one made for the request."""

DEADLINE: Final[ContextVar[float]] = ContextVar("deadline", default=float("inf"))
"""When the answer must be there, on the clock of ``time.perf_counter``."""
