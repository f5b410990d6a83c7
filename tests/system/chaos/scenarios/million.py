"""A million requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from tests.system.chaos.client import Callers
from tests.system.chaos.report import Report

if TYPE_CHECKING:
    from tests.system.chaos.stage import Stage

__all__ = ["million"]

PAUSES: Final = (0.0,) * 32
# The first requests fill caches and arenas.
WARM_UP_SHARE: Final = 0.2
GROWTH_MB: Final = 10
QUICK_GROWTH_MB: Final = 2
STEP_SECONDS: Final = 1.0


def million(stage: Stage) -> Report:
    """A million requests on keep-alive connections: memory and descriptors stay as they are."""
    report = Report()
    requests = 20_000 if stage.quick else 1_000_000
    with stage.serve() as server:
        before = None
        after = server.usage()
        start = time.monotonic()
        with Callers(server.port, PAUSES, limit=requests) as callers:
            while callers.is_alive():
                callers.join(STEP_SECONDS)
                answered = len(callers.answered)
                stage.say(f"{answered:,} of {requests:,} requests")
                if before is None and answered >= requests * WARM_UP_SHARE:
                    before = server.usage()
                if callers.is_alive():
                    after = server.usage()
        rate = len(callers.answered) / (time.monotonic() - start)
    before = before or after  # all were answered within a step
    growth = after.pss_mb - before.pss_mb
    answered = callers.statuses.total()
    report.require(set(callers.statuses) == {200}, f"answers {dict(callers.statuses)}, not all 200")
    report.require(not callers.lost, f"{len(callers.lost)} requests were lost")
    report.require(answered >= requests, f"only {answered:,} requests were answered")
    most = QUICK_GROWTH_MB if stage.quick else GROWTH_MB
    report.require(growth < most, f"memory grew by {growth:.1f} MB")
    report.require(
        after.fds <= before.fds, f"file descriptors grew from {before.fds} to {after.fds}"
    )
    report.done = f"{answered:,} requests on {len(PAUSES)} keep-alive connections"
    report.came_back = (
        f"PSS {before.pss_mb:.1f} > {after.pss_mb:.1f} MB ({growth:+.1f}), descriptors "
        f"{before.fds} > {after.fds}; {rate:,.0f} requests/s of this client"
    )
    report.figures = {
        "answered": answered,
        "rate": round(rate),
        "pss_mb": [before.pss_mb, after.pss_mb],
        "fds": [before.fds, after.fds],
    }
    return report
