"""What may go wrong while measuring, or putting load on a server."""

from __future__ import annotations

__all__ = ["BenchmarkError"]


class BenchmarkError(Exception):
    """The measurement cannot be made or trusted; the text says why."""
