"""What a worker does once a second beside answering: look at itself and tell the others.

And once a minute a line in the log about the traffic, in place of one for each request.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import astuple, dataclass
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from churn_serving.telemetry.metrics import (
    CPU_SECONDS,
    HTTP_DURATION,
    INFERENCE_DURATION,
    OPEN_FDS,
    PREDICTIONS,
    RESIDENT_MEMORY,
    START_TIME,
    Counter,
    Histogram,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from churn_serving.telemetry.exposition import Exchange
    from churn_serving.telemetry.metrics import Metrics
    from churn_serving.telemetry.process import Process, Siblings

__all__ = ["REFRESH_SECONDS", "Reporter"]

logger = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 1.0
_SIBLINGS_EVERY: Final = 5
_WARN_EVERY_SECONDS: Final = 60.0


class Reporter:
    """Keeps what is known of this worker up to date.

    Args:
        metrics: What this worker counts.
        exchange: Where the other workers find it.
        process: This worker's own figures.
        siblings: The other workers.
        log_interval: Seconds between two lines about the traffic.
        no_traffic: Routes that those lines leave out.
        gauges: Sets the gauges that only the service knows.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        exchange: Exchange,
        process: Process,
        siblings: Siblings,
        log_interval: float,
        no_traffic: Collection[str],
        gauges: Callable[[], None],
    ) -> None:
        self._metrics = metrics
        self._exchange = exchange
        self._process = process
        self._siblings = siblings
        self._log_interval = log_interval
        self._no_traffic = no_traffic
        self._gauges = gauges
        self._logged = _Traffic()
        self._logged_at = monotonic()
        self._could_write = True
        self._warned_at = -inf

    async def run(self) -> None:
        """Refresh once a second until cancelled, and once more then."""
        second = 0
        try:
            while True:
                if self._process.is_out_of_descriptors:
                    self._warn_of_descriptors()
                else:  # which needs some
                    self.refresh()
                if monotonic() - self._logged_at >= self._log_interval:
                    self._log_traffic()
                if second % _SIBLINGS_EVERY == 0:
                    await asyncio.to_thread(self._siblings.refresh)  # which raises nothing
                second += 1
                await asyncio.sleep(REFRESH_SECONDS)
        finally:
            self.refresh()
            self._log_traffic()

    def refresh(self) -> None:
        """Look at this worker, and write down what it has counted.

        Also before it is told to anybody: who asks another worker next must not find less.
        """
        try:
            self._update()
            self._exchange.write(self._metrics)
        except Exception:  # this must not end because a disk was full for a while
            self._metrics.could_not_write()
            if self._could_write:  # said once, not every second
                logger.exception("The metrics cannot be written for the other workers to read")
            self._could_write = False
        else:
            self._could_write = True

    def _warn_of_descriptors(self) -> None:
        self._metrics.ran_out_of_descriptors()
        if monotonic() - self._warned_at >= _WARN_EVERY_SECONDS:
            self._warned_at = monotonic()
            logger.warning(
                "No file descriptor is free: new connections are closed unanswered; raise the "
                "limit (ulimit -n) or add instances"
            )

    def _update(self) -> None:
        self._process.refresh()
        self._metrics.gauge(RESIDENT_MEMORY, self._process.memory_bytes)
        self._metrics.gauge(OPEN_FDS, self._process.open_fds)
        self._metrics.gauge(START_TIME, self._process.started)
        self._metrics.total(CPU_SECONDS, self._process.cpu_seconds)
        self._gauges()

    def _log_traffic(self) -> None:
        """Log what has happened since the last such line, if anything has."""
        now = _Traffic.of(self._metrics, self._no_traffic)
        past = now - self._logged
        seconds = monotonic() - self._logged_at
        self._logged, self._logged_at = now, monotonic()
        if past.requests:
            logger.info("Traffic", extra={"seconds": round(seconds, 1), **past.figures()})


@dataclass(frozen=True, slots=True)
class _Traffic:
    """Totals of one worker."""

    requests: int = 0
    request_seconds: float = 0.0
    refused: int = 0
    failed: int = 0
    customers: int = 0
    churn: int = 0
    model_calls: int = 0
    model_seconds: float = 0.0

    @classmethod
    def of(cls, metrics: Metrics, no_traffic: Collection[str]) -> _Traffic:
        totals = dict.fromkeys(cls.__slots__, 0.0)
        for family, labels, sample in metrics:
            if family is HTTP_DURATION and isinstance(sample, Histogram):
                if labels[0] in no_traffic:
                    continue
                count = sum(sample.counts)
                totals["requests"] += count
                totals["request_seconds"] += sample.total
                totals["refused"] += count * labels[1].startswith("4")
                totals["failed"] += count * labels[1].startswith("5")
            elif family is PREDICTIONS and isinstance(sample, Counter):
                totals["customers"] += sample.value
                totals["churn"] += sample.value * (labels[1] == "churn")
            elif family is INFERENCE_DURATION and isinstance(sample, Histogram):
                totals["model_calls"] += sum(sample.counts)
                totals["model_seconds"] += sample.total
        seconds = {"request_seconds", "model_seconds"}
        return cls(**{k: v if k in seconds else int(v) for k, v in totals.items()})  # type: ignore[arg-type] # whole numbers

    def __sub__(self, other: _Traffic) -> _Traffic:
        return _Traffic(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def figures(self) -> dict[str, float]:
        """Return what a person wants to read."""
        return {
            "requests": self.requests,
            "refused_4xx": self.refused,
            "failed_5xx": self.failed,
            "mean_ms": round(self.request_seconds / self.requests * 1e3, 3),
            "customers": self.customers,
            "churn_rate": round(self.churn / max(self.customers, 1), 4),
            "model_calls": self.model_calls,
            "mean_batch_size": round(self.customers / max(self.model_calls, 1), 2),
            "mean_model_ms": round(self.model_seconds / max(self.model_calls, 1) * 1e3, 3),
        }
