"""The figures of a load test as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["tables"]

_COLUMNS: Final = ("request", "requests", "req/s", "failed", "p50 ms", "p95 ms", "p99 ms")
_FAILURE_COLUMNS: Final = ("failure", "request", "times")


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """Return a table of what was measured, and one of the failures, if there are any."""
    rows = [
        (
            row["request"],
            f"{row['requests']:,}",
            f"{row['requests_per_second']:,.1f}",
            f"{row['failures']:,}",
            *(f"{row[f'p{percent}_ms']:g}" for percent in (50, 95, 99)),
        )
        for row in summary["rows"]
    ]
    failures = [
        (failure["name"], failure["request"], f"{failure['count']:,}")
        for failure in summary["failures"]
    ]
    found = [Table("", _COLUMNS, rows)]
    return [*found, Table("", _FAILURE_COLUMNS, failures)] if failures else found
