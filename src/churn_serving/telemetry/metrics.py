"""Every metric of the service, and what one process has counted.

Recording must cost next to nothing: an observation of a prometheus_client histogram that is shared
between processes takes about ten microseconds, a third of a whole prediction. So a process counts
in plain objects on its event loop, and ``churn_serving.telemetry.exposition`` brings the processes
together when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from itertools import product
from time import perf_counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from churn_serving.errors import (
    BreakerOpenError,
    DeadlineUnreachableError,
    QueueFullError,
    TooManyBodiesError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from churn_serving.errors import ShedError

__all__ = [
    "CHURN_RATE_ROLLING",
    "FAMILIES",
    "ROLLING_WINDOW",
    "Counter",
    "Family",
    "Gauge",
    "Histogram",
    "Metrics",
    "Sample",
]

ROLLING_WINDOW: Final = 1000
"""Predictions that the rolling churn rate looks back on."""

Merge: TypeAlias = Literal["sum", "max", "min"]
Key: TypeAlias = tuple[str, tuple[str, ...]]

_SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)
_CUSTOMERS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as Prometheus knows it.

    Attributes:
        kind: What it is. A counter's samples carry the suffix ``_total``.
        name: Without that suffix.
        help: What it means, for whoever is on call.
        labels: The names of its labels.
        bounds: Upper bounds of a histogram's buckets, without the last, infinity.
        merge: What the processes' gauges become together.
    """

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    merge: Merge = "sum"


def _counter(name: str, help_text: str, *labels: str) -> Family:
    return Family("counter", name, help_text, labels)


def _gauge(name: str, help_text: str, *labels: str, merge: Merge = "sum") -> Family:
    return Family("gauge", name, help_text, labels, merge=merge)


def _histogram(name: str, help_text: str, bounds: tuple[float, ...], *labels: str) -> Family:
    return Family("histogram", name, help_text, labels, bounds)


HTTP_DURATION: Final = _histogram(
    "http_request_duration_seconds",
    "How long requests took from header to answer, by route and status. Unknown paths count as "
    "'other'; status 499 is a client that left.",
    _SECONDS,
    "route",
    "status",
)
HTTP_IN_FLIGHT: Final = _gauge("http_requests_in_flight", "Requests that are being answered now.")
PREDICTIONS: Final = _counter(
    "ml_predictions",
    "Customers scored, by model version and predicted outcome (churn or no_churn).",
    "model_version",
    "outcome",
)
CHURN_RATE_ROLLING: Final = _gauge(
    "ml_churn_rate_rolling",
    f"Share of the last {ROLLING_WINDOW} customers, of all workers, who are predicted to leave.",
    "model_version",
)
DECISIONS: Final = _counter(
    "ml_decisions",
    "Customers decided about (/api/v2), by action: contact, leave_alone, or control for those who "
    "would be contacted but are kept apart.",
    "action",
)
EXPECTED_PROFIT: Final = _counter(
    "ml_expected_profit",
    "What the contacts that were decided on are expected to gain, in dollars; an estimate.",
)
REASONS: Final = _counter(
    "ml_reasons",
    "Customers by the strongest reason of their estimate, and whether it raises or lowers it.",
    "code",
    "direction",
)
INFERENCE_DURATION: Final = _histogram(
    "ml_inference_duration_seconds",
    "How long one call of the model took, whatever the size of its batch.",
    _SECONDS[:-1],
)
BATCH_SIZE: Final = _histogram(
    "ml_batch_size", "How many customers one call of the model scored.", _CUSTOMERS
)
ERRORS: Final = _counter(
    "ml_errors",
    "Requests that were refused or failed, by route and kind of error. Unknown paths and methods "
    "appear only in http_request_duration_seconds.",
    "endpoint",
    "error_type",
)
QUEUE_WAIT: Final = _histogram(
    "ml_queue_wait_seconds",
    "How long requests waited for the model. A model that runs inline has no queue.",
    _SECONDS[:-1],
)
QUEUE_DEPTH: Final = _gauge("ml_queue_depth", "Customers who wait for the model now.")
QUEUE_CAPACITY: Final = _gauge(
    "ml_queue_capacity", "The most customers who may wait for the model."
)
SHED: Final = _counter(
    "ml_shed",
    "Requests refused at once, by reason: queue_full, deadline (it could not be met), "
    "breaker_open, slow_bodies.",
    "reason",
)
DEADLINE_MISSED: Final = _counter(
    "ml_deadline_missed", "Accepted requests whose answer was not ready in time; they got 504."
)
BREAKER_STATE: Final = _gauge(
    "ml_breaker_state",
    "State of the worst worker's circuit breaker: 0 closed, 1 half open, 2 open.",
    merge="max",
)
BREAKER_OPENED: Final = _counter("ml_breaker_opened", "How often a circuit breaker has opened.")
MODEL_MEMORY: Final = _gauge(
    "ml_model_memory_bytes",
    "Size of the model's arrays, from which each worker makes what scores.",
    "model_version",
    merge="max",
)
MODEL_INFO: Final = _gauge(
    "ml_model_info",
    "Always 1; the labels name the registered model that is served.",
    *("model_name", "model_version", "estimator"),
    merge="max",
)
MODEL_PICKLED: Final = _gauge(
    "ml_model_pickled",
    "1 if the model is unpickled and run by scikit-learn, which CHURN_ALLOW_PICKLE allows; else 0.",
    merge="max",
)
BUILD_INFO: Final = _gauge(
    "ml_build_info",
    "Always 1; the labels name the version and commit of the service, what it runs on, and the "
    "scikit-learn that trained the model.",
    *("version", "git_commit", "python", "bentoml", "scikit_learn"),
    merge="max",
)
WORKERS: Final = _gauge("ml_workers", "Worker processes that should run.", merge="max")
WORKERS_LIVE: Final = _gauge("ml_workers_live", "Worker processes that do run.")
WORKERS_READY: Final = _gauge("ml_workers_ready", "Worker processes that are ready for requests.")
WRITE_ERRORS: Final = _counter(
    "ml_metrics_write_errors",
    "How often a worker could not share its figures; some may be missing from /metrics.",
)
RESIDENT_MEMORY: Final = _gauge(
    "process_resident_memory_bytes",
    "Resident memory of all workers. Memory that they share counts once for each.",
)
CPU_SECONDS: Final = _counter(
    "process_cpu_seconds", "CPU time that all workers have used, user and system."
)
OPEN_FDS: Final = _gauge("process_open_fds", "Open file descriptors of all workers.")
FDS_EXHAUSTED: Final = _counter(
    "ml_fds_exhausted",
    "Seconds in which a worker had no free file descriptor: new connections are closed unanswered. "
    "Raise the limit (ulimit -n).",
)
START_TIME: Final = _gauge(
    "process_start_time_seconds", "Unix time at which the oldest worker started.", merge="min"
)

_OF_CUSTOMERS: Final = (
    *(PREDICTIONS, DECISIONS, EXPECTED_PROFIT, REASONS),
    *(INFERENCE_DURATION, BATCH_SIZE, QUEUE_WAIT),
)

FAMILIES: Final = {
    value.name: value for value in tuple(globals().values()) if isinstance(value, Family)
}


@dataclass(slots=True)
class Counter:
    """Only grows."""

    value: float = 0.0


@dataclass(slots=True)
class Gauge:
    """Goes up and down."""

    value: float = 0.0


@dataclass(slots=True)
class Histogram:
    """How many observations fell into each bucket, and their sum."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Sample: TypeAlias = Counter | Gauge | Histogram


class Metrics:
    """What one process has counted. To be used on its event loop only.

    Args:
        model_version: The label of its predictions.

    Attributes:
        recent: When each of the last predictions was made (``time.perf_counter``, which all
            processes of a machine share), negative if it was not churn.
    """

    def __init__(self, model_version: str) -> None:
        self.model_version = model_version
        self.recent: deque[float] = deque(maxlen=ROLLING_WINDOW)
        self._samples: dict[Key, Sample] = {}
        # Those of the hot path are looked up once. Both outcomes exist from the start, so that a
        # rate over them has a first value.
        self._http: dict[tuple[str, int], Histogram] = {}
        self._inference = self._histogram(INFERENCE_DURATION)
        self._batch_size = self._histogram(BATCH_SIZE)
        self._queue_wait = self._histogram(QUEUE_WAIT)
        self._churn = self._counter(PREDICTIONS, model_version, "churn")
        self._no_churn = self._counter(PREDICTIONS, model_version, "no_churn")
        self._decisions = {
            action: self._counter(DECISIONS, action)
            for action in ("contact", "leave_alone", "control")
        }
        self._expected_profit = self._counter(EXPECTED_PROFIT)
        self._reasons: dict[tuple[str, str], Counter] = {}
        # Likewise all that should stay at zero: Prometheus sees no jump from nothing to one.
        for error in (
            QueueFullError,
            DeadlineUnreachableError,
            TooManyBodiesError,
            BreakerOpenError,
        ):
            self._counter(SHED, error.reason)
        self._counter(DEADLINE_MISSED)
        self._counter(BREAKER_OPENED)
        self._counter(WRITE_ERRORS)
        self._counter(FDS_EXHAUSTED)

    def __iter__(self) -> Iterator[tuple[Family, tuple[str, ...], Sample]]:
        for (name, labels), sample in self._samples.items():
            yield FAMILIES[name], labels, sample

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request. The caller keeps the number of routes bounded."""
        histogram = self._http.get((route, status))
        if histogram is None:
            histogram = self._histogram(HTTP_DURATION, route, str(status))
            self._http[route, status] = histogram
        histogram.observe(seconds)

    def scored(self, customers: int, seconds: float) -> None:
        """Count one call of the model."""
        self._inference.observe(seconds)
        self._batch_size.observe(customers)

    def waited(self, seconds: float) -> None:
        """Count a request's time in the queue."""
        self._queue_wait.observe(seconds)

    def predicted(self, predictions: list[Literal[0, 1]]) -> None:
        """Count the predictions of one request."""
        now = perf_counter()
        for prediction in predictions:
            if prediction:
                self._churn.value += 1
                self.recent.append(now)
            else:
                self._no_churn.value += 1
                self.recent.append(-now)

    def decided(self, action: str, expected_profit: float) -> None:
        """Count a decision about a customer."""
        self._decisions[action].value += 1
        if action == "contact":
            self._expected_profit.value += expected_profit

    def expect_reasons(self, codes: Iterable[str], directions: Iterable[str]) -> None:
        """Begin to count the reasons that there may be."""
        for code, direction in product(codes, directions):
            self._reasons[code, direction] = self._counter(REASONS, code, direction)

    def explained(self, code: str, direction: str) -> None:
        """Count the strongest reason of an estimate, one of those that were expected."""
        self._reasons[code, direction].value += 1

    def failed(self, route: str, error: BaseException) -> None:
        """Count a request that ended in an error."""
        self._counter(ERRORS, route, type(error).__name__).value += 1

    def shed(self, error: ShedError) -> None:
        """Count a request that was refused at once."""
        self._counter(SHED, error.reason).value += 1

    def missed_deadline(self) -> None:
        """Count an accepted request whose answer was not ready in time."""
        self._counter(DEADLINE_MISSED).value += 1

    def could_not_write(self) -> None:
        """Count a failure to write the figures for the other processes."""
        self._counter(WRITE_ERRORS).value += 1

    def ran_out_of_descriptors(self) -> None:
        """Count a second without a free file descriptor."""
        self._counter(FDS_EXHAUSTED).value += 1

    def total(self, family: Family, value: float, *labels: str) -> None:
        """Set a counter to a total that is counted elsewhere."""
        self._counter(family, *labels).value = value

    def gauge(self, family: Family, value: float, *labels: str) -> None:
        """Set a gauge."""
        key = family.name, labels
        sample = self._samples.get(key)
        if not isinstance(sample, Gauge):
            sample = self._samples[key] = Gauge()
        sample.value = value

    def forget_predictions(self) -> None:
        """Begin anew with the model's figures: it has not worked for a customer yet."""
        for family, _, sample in self:
            if family not in _OF_CUSTOMERS:
                continue
            if isinstance(sample, Histogram):
                sample.counts[:] = [0] * len(sample.counts)
                sample.total = 0.0
            elif isinstance(sample, Counter):
                sample.value = 0.0
        self.recent.clear()

    def _counter(self, family: Family, *labels: str) -> Counter:
        key = family.name, labels
        sample = self._samples.get(key)
        if not isinstance(sample, Counter):
            sample = self._samples[key] = Counter()
        return sample

    def _histogram(self, family: Family, *labels: str) -> Histogram:
        sample = Histogram(family.bounds)
        self._samples[family.name, labels] = sample
        return sample
