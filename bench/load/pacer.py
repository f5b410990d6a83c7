"""A fixed rate, sent by a process with a core of its own.

Latency counts from the moment a request was due, so a server that stalls is charged for every
request that had to wait for it. The client spins with garbage collection off; what it is late by
itself is reported beside the latencies.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bench.errors import BenchmarkError
from bench.load.answer import OK, request
from bench.load.background import overlap
from bench.load.schedule import Exchange, Schedule
from bench.process import CLIENT_CPU, ROOT, pinned

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.process import Running
    from churn_serving.features.columns import FloatArray

__all__ = ["Paced", "pace"]

SLOW_SECONDS: Final = 0.050
"""An answer that takes longer is counted as slow."""
SUSTAINED: Final = 0.99
"""Share of the rate that has to be answered in time."""

_WATCH_SECONDS: Final = 2.0
_ROUNDING_SECONDS: Final = 1e-6
_PERCENTILES: Final = {"p50_ms": 50, "p99_ms": 99, "p99_9_ms": 99.9, "max_ms": 100}


@dataclass(frozen=True, slots=True)
class Paced:
    """What came of a fixed rate.

    Attributes:
        rate: Requests a second that were sent.
        seconds: For how long, the warm-up aside.
        answers: How many came.
        errors: Other answers than 200, lost connections, and no answer at all.
        latency: Percentiles in milliseconds, counted from when a request was due.
        client_lag: The same of what the client was late by itself.
        over_50_ms: Answers that took longer than that.
        over_50_ms_because_the_client_paused: Those of them that would not have, but for that.
        over_1_s: Answers that took longer than that.
        client_pauses: How often the client got no CPU for more than 2 ms.
        client_longest_pause_ms: The longest of these pauses.
    """

    rate: float
    seconds: float
    answers: int
    errors: int
    latency: dict[str, float]
    client_lag: dict[str, float]
    over_50_ms: int
    over_50_ms_because_the_client_paused: int
    over_1_s: int
    client_pauses: int
    client_longest_pause_ms: float

    @property
    def p50_ms(self) -> float:
        """Half of the answers came within this."""
        return self.latency.get("p50_ms", float("inf"))

    @property
    def p99_ms(self) -> float:
        """99 of 100 answers came within this."""
        return self.latency.get("p99_ms", float("inf"))

    @property
    def sustained(self) -> bool:
        """Whether the server kept up; one that does not answers later and later, by seconds."""
        return self.answers - self.over_1_s >= SUSTAINED * self.rate * self.seconds


def pace(
    here: Running,
    path: str,
    bodies: Path,
    *,
    rate: float,
    seconds: float,
    warm_up: float,
    connections: int,
    watch: Callable[[], object] | None = None,
) -> Paced:
    """Send requests at a fixed rate.

    Args:
        here: The server.
        path: Of the prediction.
        bodies: One JSON document a line, sent in turn.
        rate: Requests a second.
        seconds: For how long, after the warm-up.
        warm_up: Seconds at the start that do not count.
        connections: Requests that may be in flight.
        watch: Called every other second after the warm-up.
    """
    given = (here.port, path, bodies, rate, seconds, warm_up, connections)
    with pinned({CLIENT_CPU}):
        client = subprocess.Popen(
            [sys.executable, "-m", "bench.load.pacer", *map(str, given)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
    try:
        wait = max(warm_up, 0.1)
        while client.poll() is None:
            try:
                client.wait(wait)
            except subprocess.TimeoutExpired:
                wait = _WATCH_SECONDS
                if watch is not None:
                    watch()
    finally:
        client.kill()
    output, _ = client.communicate()
    if client.returncode:
        raise BenchmarkError("The paced client failed; what it said is above.")
    return Paced(rate=rate, seconds=seconds, **json.loads(output))


class _Recorder:
    """Keeps numbers only: minutes at thousands of requests a second are millions of exchanges."""

    def __init__(self) -> None:
        self._dues, self._latencies, self._lags = array("d"), array("d"), array("d")
        self._errors = 0

    def take(self, exchange: Exchange) -> None:
        self._errors += exchange.status != OK
        if exchange.status:
            self._dues.append(exchange.due)
            self._latencies.append(exchange.done - exchange.due)
            self._lags.append(exchange.lag)

    def summary(self, schedule: Schedule, warm_up: float) -> dict[str, Any]:
        start = schedule.began + warm_up - _ROUNDING_SECONDS
        kept = np.array(self._dues) >= start
        dues, latencies, lags = (
            np.array(values)[kept] for values in (self._dues, self._latencies, self._lags)
        )
        slow = latencies > SLOW_SECONDS
        pauses = [pause for pause in schedule.pauses if pause[0] >= start]
        by_the_client = sum(
            latency - overlap(pauses, due, due + latency) <= SLOW_SECONDS
            for due, latency in zip(dues[slow].tolist(), latencies[slow].tolist(), strict=True)
        )
        return {
            "answers": len(latencies),
            "errors": self._errors + schedule.unsent,
            "latency": _percentiles(latencies),
            "client_lag": _percentiles(lags),
            "over_50_ms": int(slow.sum()),
            "over_50_ms_because_the_client_paused": by_the_client,
            "over_1_s": int((latencies > 1).sum()),
            "client_pauses": len(pauses),
            "client_longest_pause_ms": max((b - a for a, b in pauses), default=0.0) * 1e3,
        }


def _percentiles(seconds: FloatArray) -> dict[str, float]:
    if not len(seconds):
        return {}
    values = np.percentile(seconds, list(_PERCENTILES.values())) * 1e3
    return dict(zip(_PERCENTILES, (round(float(value), 4) for value in values), strict=True))


def main(port: str, path: str, bodies: str, *figures: str) -> None:
    """Send, and print the figures as one JSON document."""
    rate, seconds, warm_up, connections = map(float, figures)
    what = [request("POST", path, body) for body in Path(bodies).read_bytes().splitlines()]
    recorder = _Recorder()
    schedule = Schedule(
        int(port),
        rate=rate,
        seconds=warm_up + seconds,
        what=what,
        most=int(connections),
        spin=True,
        take=recorder.take,
    )
    gc.collect()
    gc.disable()
    schedule.work()
    json.dump(recorder.summary(schedule, warm_up), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
