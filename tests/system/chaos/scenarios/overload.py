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
FACTOR: Final = 10
DEADLINE_SECONDS: Final = 2
LEAST_GOODPUT: Final = 0.9
# Who is refused does not wait in the queue first, as the accepted do.
REFUSAL_SHARE: Final = 0.1
GROWTH_MB: Final = 10
# What is left out at the start, until the queue is as full as it will be.
WARM_UP_SECONDS: Final = 3


def overload(stage: Stage) -> Report:
    """An open-loop load of ten times the capacity: goodput holds, the rest is refused at once."""
    report = Report()
    # The short form has a slower model: it needs fewer requests, and so less of the machine.
    seconds, batch_seconds = (10, 0.2) if stage.quick else (60, 0.05)
    rate = FACTOR * BATCH / batch_seconds
    stage.say(f"{rate:,.0f} requests/s")
    stage.faults().inject(sleep=batch_seconds)
    with stage.serve(
        "faulty", max_batch_size=BATCH, request_timeout_seconds=DEADLINE_SECONDS
    ) as server:
        load = Schedule(server.port, rate=rate, seconds=seconds)
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
    capacity = BATCH * calls / call_seconds
    goodput = good / (end - start) / capacity
    p99 = percentile_ms((exchange.seconds for exchange in accepted), 99)
    refusal, waited = (
        percentile_ms((exchange.seconds for exchange in some), 50) for some in (refused, accepted)
    )
    lag = percentile_ms((exchange.sent - exchange.due for exchange in load.exchanges), 99)
    growth = after.pss_mb - before.pss_mb
    report.require(
        goodput >= LEAST_GOODPUT,
        f"goodput was {goodput:.0%} of the capacity, not {LEAST_GOODPUT:.0%}",
    )
    report.require(
        p99 <= DEADLINE_SECONDS * 1e3 + lag,
        f"p99 of the accepted was {p99:.0f} ms, where this client was late by {lag:.0f}",
    )
    report.require(refused, "nothing was refused")
    report.require(
        refusal < REFUSAL_SHARE * waited,
        f"the median refusal took {refusal:.1f} ms, the median answer {waited:.0f}",
    )
    report.require(all(exchange.retry_after for exchange in refused), "refusals had no Retry-After")
    report.require(statuses.keys() <= {200, 429, 503}, f"other answers (0: none): {dict(statuses)}")
    report.require(growth < GROWTH_MB, f"memory grew by {growth:.1f} MB")
    report.done = (
        f"{rate:,.0f} requests/s for {seconds} s on a model that takes {rate / FACTOR:.0f}"
    )
    report.came_back = (
        f"goodput {goodput:.0%} of {capacity:.0f} customers/s; accepted p99 {p99:,.0f} ms; "
        f"{len(refused):,} refused in {refusal:.1f} ms (median); PSS {growth:+.1f} MB"
    )
    report.figures = {
        "statuses": dict(statuses),
        "goodput": round(good / (end - start), 1),
        "capacity_measured": round(capacity, 1),
        "accepted_p50_p99_ms": percentiles_ms((one.seconds for one in accepted), 50, 99),
        "refused_p50_p99_ms": percentiles_ms((one.seconds for one in refused), 50, 99),
        "client_lag_p99_ms": lag,
        "connections": load.connections,
        "pss_mb": [before.pss_mb, after.pss_mb],
        "fds": [before.fds, after.fds],
    }
    return report


def _calls(server: Server) -> tuple[float, float]:
    """Return how many calls of the model there were, and how many seconds they took."""
    name = "ml_inference_duration_seconds"
    return server.metric(f"{name}_count"), server.metric(f"{name}_sum")
