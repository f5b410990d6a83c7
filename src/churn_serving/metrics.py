"""Every Prometheus metric of the service, and a way to record them that costs almost nothing.

A prometheus_client histogram shared between processes takes several microseconds an observation,
as long as a prediction. So each process tallies in plain lists, and adds its tallies to the real
metrics once a second and whenever it is asked for them. A scrape may be a second behind for the
other processes, never for good.
"""

from __future__ import annotations

import asyncio
import logging
import os
from bisect import bisect_left
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["FLUSH_SECONDS", "Metrics", "exposition"]

logger = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 1.0

_MULTIPROCESS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_HTTP_BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)
_INFERENCE_BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0),
)
_BATCH_BUCKETS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class _BulkHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, counts: list[int], total: float) -> None:
        """Add the observations per bucket (the last is +Inf) and their sum."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


HTTP_DURATION: Final = _BulkHistogram(
    "http_request_duration_seconds",
    "Time from a request's headers to its answer, by route and status. Unknown paths are 'other'.",
    ["route", "status"],
    buckets=_HTTP_BUCKETS,
)
INFERENCE_DURATION: Final = _BulkHistogram(
    "ml_inference_duration_seconds",
    "Time of one call of the model, whatever the size of its batch.",
    buckets=_INFERENCE_BUCKETS,
)
BATCH_SIZE: Final = _BulkHistogram(
    "ml_batch_size", "Customers in one call of the model.", buckets=_BATCH_BUCKETS
)
PREDICTIONS: Final = Counter(
    "ml_predictions",
    "Customers scored, by model version and predicted outcome (churn or no_churn).",
    ["model_version", "outcome"],
)
ERRORS: Final = Counter(
    "ml_errors",
    "Requests that ended in an error, by route and kind of error.",
    ["endpoint", "error_type"],
)


class _Tally:
    """Observations that have not reached their histogram yet."""

    __slots__ = ("_bounds", "_counts", "_flush_to", "_total")

    def __init__(self, bounds: tuple[float, ...], flush_to: Any) -> None:  # noqa: ANN401 - a metric or its child
        self._bounds = bounds
        self._flush_to = flush_to
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def flush(self) -> None:
        if any(self._counts):
            counts, total = self._counts, self._total
            self._counts = [0] * len(counts)
            self._total = 0.0
            self._flush_to.add(counts, total)


class Metrics:
    """What one process has seen since it last flushed. To be used on the event loop only.

    Args:
        model_version: The label of its predictions.
    """

    def __init__(self, model_version: str) -> None:
        self._http: dict[tuple[str, int], _Tally] = {}
        self._inference = _Tally(_INFERENCE_BUCKETS, INFERENCE_DURATION)
        self._batch_size = _Tally(_BATCH_BUCKETS, BATCH_SIZE)
        self._churn = self._no_churn = 0
        # Both outcomes exist from the start, so that a rate over them has a first value.
        self._predicted_churn = PREDICTIONS.labels(model_version, "churn")
        self._predicted_no_churn = PREDICTIONS.labels(model_version, "no_churn")

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request. The caller keeps the number of routes bounded."""
        tally = self._http.get((route, status))
        if tally is None:
            child = HTTP_DURATION.labels(route, str(status))
            tally = self._http[route, status] = _Tally(_HTTP_BUCKETS, child)
        tally.observe(seconds)

    def scored(self, customers: int, seconds: float) -> None:
        """Count one call of the model."""
        self._inference.observe(seconds)
        self._batch_size.observe(customers)

    def predicted(self, *, customers: int, churn: int) -> None:
        """Count predictions: for how many customers, and how many of them are to leave."""
        self._churn += churn
        self._no_churn += customers - churn

    def failed(self, route: str, error: BaseException) -> None:
        """Count a request that ended in an error. Rare enough to be counted at once."""
        ERRORS.labels(route, type(error).__name__).inc()

    def flush(self) -> None:
        """Add everything to the Prometheus metrics."""
        for tally in (*self._http.values(), self._inference, self._batch_size):
            tally.flush()
        self._predicted_churn.inc(self._churn)
        self._predicted_no_churn.inc(self._no_churn)
        self._churn = self._no_churn = 0

    async def flush_regularly(self) -> None:
        """Flush once a second, and once more when cancelled."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                self._try_to_flush()
        finally:
            self._try_to_flush()

    def _try_to_flush(self) -> None:
        try:
            self.flush()
        except Exception:  # metrics must not end because a disk was full for a while
            logger.exception("The metrics could not be written")


def exposition() -> bytes:
    """Return the metrics of all processes in Prometheus's text format."""
    if _MULTIPROCESS_FOLDER not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # prometheus_client's own
    return generate_latest(registry)
