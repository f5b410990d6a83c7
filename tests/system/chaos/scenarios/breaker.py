"""A model that raises, for one customer or for most."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING, Final

from tests.bad_requests import CUSTOMER, PREDICT
from tests.system.chaos.client import (
    ASK_HEALTH,
    ASK_PREDICTION,
    ASK_READY,
    ask,
    percentile_ms,
    request,
)
from tests.system.chaos.report import Report
from tests.system.chaos.server import START_SECONDS, wait_for

if TYPE_CHECKING:
    from tests.system.chaos.server import Server
    from tests.system.chaos.stage import Stage

__all__ = ["breaker"]

POISON_TENURE: Final = 119
MOST_ATTEMPTS: Final = 10
NEIGHBOURS: Final = 15
BATCH_SECONDS: Final = 0.2
TIMEOUT_SECONDS: Final = 30
RAISE_SHARE: Final = 0.6
MOST_CALLS: Final = 600
CLOSED, OPEN = 0, 2
# A refusal takes no longer than so many answers of /health, which ask no model either.
HEALTH_FACTOR: Final = 5
HEALTHS: Final = 20
OPEN_SECONDS: Final = 5
"""What the service leaves a failing model alone for."""
IN_A_ROW: Final = 20

ASK_POISON: Final = request(
    "POST", PREDICT, json.dumps(CUSTOMER | {"tenure_months": POISON_TENURE}).encode()
)


def breaker(stage: Stage) -> Report:
    """A raising model: neighbours are spared, the breaker opens, probes and closes by itself."""
    report = Report()
    faults = stage.faults()
    # In a batch that failed, each is scored by itself: all of them must have the time.
    with stage.serve("faulty", request_timeout_seconds=TIMEOUT_SECONDS) as server:
        pids = server.pids()
        stage.say("one poisoned customer")
        faults.inject(sleep=BATCH_SECONDS, poison_tenure=POISON_TENURE)
        # On a busy machine it may be the first to come, and be scored before it has neighbours.
        for _ in range(MOST_ATTEMPTS):
            poisoned, neighbours = _poison(server)
            if max(faults.poisoned(), default=0) > 1:
                break
        report.require(poisoned == 500, f"the poisoned customer was answered {poisoned}")
        report.require(set(neighbours) == {200}, f"its neighbours were answered {dict(neighbours)}")
        report.require(
            max(faults.poisoned(), default=0) > 1,
            f"the poisoned customer had no neighbours in its batch: {faults.poisoned()}",
        )
        report.require(
            server.metric("ml_breaker_state") == CLOSED, "one poisoned customer opened the breaker"
        )

        stage.say("a model that raises")
        faults.inject(raise_share=RAISE_SHARE)
        calls = _call_until_refused(server)
        opened = perf_counter()
        report.require(calls[503], f"the breaker did not open: {dict(calls)}")
        report.require(calls.keys() <= {200, 500, 503}, f"unexpected answers: {dict(calls)}")
        report.require(
            server.metric("ml_breaker_state") == OPEN, "ml_breaker_state is not 2 after a refusal"
        )
        report.require(
            server.metric("ml_breaker_opened_total") >= 1, "ml_breaker_opened_total was not counted"
        )
        faults.heal()
        refusals, hints = _refusals(server, opened + OPEN_SECONDS / 2)
        health = percentile_ms((_seconds(server, ASK_HEALTH) for _ in range(HEALTHS)), 50)
        report.require(
            percentile_ms(refusals, 50) < HEALTH_FACTOR * health,
            f"the open breaker took {percentile_ms(refusals, 50)} ms to refuse, or did not; "
            f"/health took {health} ms",
        )
        report.require(
            all((hint or "").isdigit() and int(hint or 0) >= 1 for hint in hints),
            f"Retry-After of the refusals: {sorted({str(hint) for hint in hints})}",
        )
        report.require(
            server.metric("ml_shed_total", reason="breaker_open") >= 1,
            'ml_shed_total{reason="breaker_open"} was not counted',
        )
        report.require(
            ask(server.port, ASK_READY).status == 200, "the open breaker failed the readiness"
        )

        stage.say("the model has healed")
        wait_for(lambda: ask(server.port, ASK_PREDICTION).status == 200, START_SECONDS)
        closed = wait_for(
            lambda: (
                {ask(server.port, ASK_PREDICTION).status for _ in range(IN_A_ROW)} == {200}
                and server.metric("ml_breaker_state") == CLOSED
            ),
            START_SECONDS,
        )
        healed = perf_counter() - opened
        report.require(closed is not None, "the breaker did not close after the model had healed")
        report.require(server.pids() == pids, "a worker was started again")
    report.done = (
        f"1 poisoned customer among {NEIGHBOURS} others; a model that raises on {RAISE_SHARE:.0%} "
        "of its calls, then heals"
    )
    report.came_back = (
        f"poison 500, neighbours {_words(neighbours)}; opened after {calls.total()} calls, "
        f"refused in {percentile_ms(refusals, 50):.1f} ms (median), closed after {healed:.1f} s"
    )
    report.figures = {
        "neighbours": dict(neighbours),
        "calls_until_open": dict(calls),
        "refused_p50_ms": percentile_ms(refusals, 50),
        "closed_after_s": round(healed, 2),
    }
    return report


def _poison(server: Server) -> tuple[int, Counter[int]]:
    """Send everybody at once; while the first are scored, the others become one batch."""
    asks = [ASK_PREDICTION, ASK_PREDICTION, ASK_POISON, *[ASK_PREDICTION] * (NEIGHBOURS - 2)]
    with ThreadPoolExecutor(len(asks)) as pool:
        statuses = list(pool.map(lambda what: ask(server.port, what).status, asks))
    return statuses[2], Counter(statuses[:2] + statuses[3:])


def _call_until_refused(server: Server) -> Counter[int]:
    calls: Counter[int] = Counter()
    while calls.total() < MOST_CALLS and not calls[503]:
        calls[ask(server.port, ASK_PREDICTION).status] += 1
    return calls


def _refusals(server: Server, until: float) -> tuple[list[float], list[str | None]]:
    """Return how long each refusal took, and its Retry-After."""
    seconds: list[float] = []
    hints: list[str | None] = []
    while not seconds or perf_counter() < until:
        start = perf_counter()
        answer = ask(server.port, ASK_PREDICTION)
        if answer.status != 503:
            break
        seconds.append(perf_counter() - start)
        hints.append(answer.header("retry-after"))
        time.sleep(0.02)
    return seconds, hints


def _seconds(server: Server, what: bytes) -> float:
    start = perf_counter()
    ask(server.port, what)
    return perf_counter() - start


def _words(statuses: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
