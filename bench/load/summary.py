"""A second locustfile: it only writes what was measured into the file that ``LOAD_SUMMARY`` names.

Locust's own JSON has no percentiles and no reasons, and its CSV files lack the last second.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from locust import events
from locust.runners import WorkerRunner

if TYPE_CHECKING:
    from locust.env import Environment
    from locust.stats import StatsEntry, StatsError


@events.quitting.add_listener
def write_summary(environment: Environment, **_: object) -> None:
    """Write one row for each kind of request and one for all, and the failures by their names."""
    if isinstance(environment.runner, WorkerRunner):
        return
    stats = environment.stats
    document = {
        "rows": [_row(entry) for _, entry in sorted(stats.entries.items())]
        + [{**_row(stats.total), "request": "all"}],
        "failures": [
            {"request": _request(error), "name": str(error.error), "count": error.occurrences}
            for error in sorted(stats.errors.values(), key=lambda error: -error.occurrences)
        ],
    }
    Path(os.environ["LOAD_SUMMARY"]).write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def _row(entry: StatsEntry) -> dict[str, float | str]:
    return {
        "request": _request(entry),
        "requests": entry.num_requests,
        "requests_per_second": entry.total_rps,
        "failures": entry.num_failures,
        **{
            f"p{percent}_ms": entry.get_response_time_percentile(percent / 100)
            for percent in (50, 95, 99)
        },
    }


def _request(entry: StatsEntry | StatsError) -> str:
    return f"{entry.method} {entry.name}"
