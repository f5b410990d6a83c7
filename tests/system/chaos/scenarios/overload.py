"""Ten times as many requests as the model can take."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.system.chaos.client import Schedule, percentile_ms, percentiles_ms
from tests.system.chaos.report import Report

if TYPE_CHECKING:
    from tests.system.chaos.server import Server
    from tests.system.chaos.stage import Stage

__all__ = ["overload"]

BATCH: Final = 8
BATCH_SECONDS: Final = 0.05
CAPACITY: Final = BATCH / BATCH_SECONDS
FACTOR: Final = 10
DEADLINE_SECONDS: Final = 2
LEAST_GOODPUT: Final = 0.9
REFUSAL_MS: Final = 10
GROWTH_MB: Final = 10
# On a machine that is busy otherwise this measures the machine: the client is late by itself, or
# the model, which does nothing but sleep, oversleeps. Then it is measured again.
MOST_LAG_MS: Final = 20
LEAST_CAPACITY: Final = 0.9 * CAPACITY
ATTEMPTS: Final = 3
# What is left out at the start, until the queue is as full as it will be.
WARM_UP_SECONDS: Final = 3


def overload(stage: Stage) -> Report:
    """An open-loop load of ten times the capacity: goodput holds, the rest is refused at once."""
    for attempt in range(1, ATTEMPTS + 1):
        stage.say(f"{CAPACITY * FACTOR:,.0f} requests/s, attempt {attempt}")
        report, busy = _attempt(stage)
        if not report.failures or not busy:
            return report
    report.failures.append(f"the machine was busy: {busy}")
    return report


def _attempt(stage: Stage) -> tuple[Report, str]:
    """Measure once; also return what shows that the machine was busy otherwise."""
    report = Report()
    seconds = 10 if stage.quick else 60
    stage.faults().inject(sleep=BATCH_SECONDS)
    with stage.serve(
        "faulty", max_batch_size=BATCH, request_timeout_seconds=DEADLINE_SECONDS
    ) as server:
        load = Schedule(server.port, rate=CAPACITY * FACTOR, seconds=seconds)
        with load:
            time.sleep(WARM_UP_SECONDS)
            before, calls_before = server.usage(), _calls(server)
            load.finish()
            after, calls_after = server.usage(), _calls(server)
    statuses = Counter(exchange.status for exchange in load.exchanges)
    start, end = load.began + WARM_UP_SECONDS, load.began + seconds
    accepted, refused = load.with_status(200), load.with_status(429, 503)
    good = sum(start <= exchange.done < end for exchange in accepted)
    # On a busy machine a call takes longer than it should, and there are fewer of them.
    calls, call_seconds = (b - a for a, b in zip(calls_before, calls_after, strict=True))
    capacity = min(CAPACITY, BATCH * calls / call_seconds)
    goodput = good / (end - start) / capacity
    p99 = percentile_ms((exchange.seconds for exchange in accepted), 99)
    refusal = percentile_ms((exchange.seconds for exchange in refused), 50)
    lag = percentile_ms((exchange.sent - exchange.due for exchange in load.exchanges), 99)
    growth = after.rss_mb - before.rss_mb
    report.require(
        goodput >= LEAST_GOODPUT,
        f"goodput was {goodput:.0%} of the capacity, not {LEAST_GOODPUT:.0%}",
    )
    report.require(p99 <= DEADLINE_SECONDS * 1e3, f"p99 of the accepted was {p99:.0f} ms")
    report.require(refused, "nothing was refused")
    report.require(not refusal >= REFUSAL_MS, f"the median refusal took {refusal:.1f} ms")
    report.require(all(exchange.retry_after for exchange in refused), "refusals had no Retry-After")
    report.require(statuses.keys() <= {200, 429, 503}, f"other answers (0: none): {dict(statuses)}")
    report.require(growth < GROWTH_MB, f"memory grew by {growth:.1f} MB")
    report.done = (
        f"{CAPACITY * FACTOR:,.0f} requests/s for {seconds} s on a model that takes {CAPACITY:.0f}"
    )
    report.came_back = (
        f"goodput {goodput:.0%} of {capacity:.0f} customers/s; accepted p99 {p99:,.0f} ms; "
        f"{len(refused):,} refused in {refusal:.1f} ms (median); RSS {growth:+.1f} MB"
    )
    report.figures = {
        "statuses": dict(statuses),
        "goodput": round(good / (end - start), 1),
        "capacity_measured": round(capacity, 1),
        "accepted_p50_p99_ms": percentiles_ms((one.seconds for one in accepted), 50, 99),
        "refused_p50_p99_ms": percentiles_ms((one.seconds for one in refused), 50, 99),
        "client_lag_p99_ms": lag,
        "connections": load.connections,
        "rss_mb": [before.rss_mb, after.rss_mb],
        "fds": [before.fds, after.fds],
    }
    if lag <= MOST_LAG_MS and capacity >= LEAST_CAPACITY:
        return report, ""
    return report, f"this client was late by {lag:.0f} ms (p99), the model took {capacity:.0f}/s"


def _calls(server: Server) -> tuple[float, float]:
    """Return how many calls of the model there were, and how many seconds they took."""
    name = "ml_inference_duration_seconds"
    return server.metric(f"{name}_count"), server.metric(f"{name}_sum")
