from __future__ import annotations

import time

import pytest

from churn_serving.errors import (
    BreakerOpenError,
    DeadlineUnreachableError,
    QueueFullError,
    ShedError,
    TooManyBodiesError,
    ValidationFailedError,
)
from churn_serving.telemetry.metrics import (
    BATCH_SIZE,
    BREAKER_OPENED,
    CPU_SECONDS,
    DEADLINE_MISSED,
    ERRORS,
    FAMILIES,
    HTTP_DURATION,
    HTTP_IN_FLIGHT,
    INFERENCE_DURATION,
    PREDICTIONS,
    QUEUE_WAIT,
    ROLLING_WINDOW,
    SHED,
    WRITE_ERRORS,
    Counter,
    Family,
    Gauge,
    Histogram,
    Metrics,
)
from tests.doubles import count_of, sample_of


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(model_version="v1")


def test_a_histogram_counts_a_value_in_the_first_bucket_that_is_not_below_it() -> None:
    histogram = Histogram((1.0, 2.0, 4.0))
    for value in (0, 1, 1.1, 2, 3, 4, 4.1, 1e9):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 2, 2]
    assert histogram.total == pytest.approx(1e9 + 15.2)


def test_both_outcomes_exist_before_the_first_prediction(metrics: Metrics) -> None:
    for outcome in ("churn", "no_churn"):
        assert sample_of(metrics, PREDICTIONS, "v1", outcome) == Counter(0.0)
    for family in (DEADLINE_MISSED, BREAKER_OPENED, WRITE_ERRORS):
        assert sample_of(metrics, family) == Counter(0.0)


def test_requests_are_counted_by_route_and_status(metrics: Metrics) -> None:
    for route, status in (("/a", 200), ("/a", 200), ("/a", 422), ("other", 404)):
        metrics.answered(route, status, 0.003)
    assert count_of(metrics, HTTP_DURATION, "/a", "200") == 2
    assert count_of(metrics, HTTP_DURATION, "/a", "422") == 1
    assert count_of(metrics, HTTP_DURATION, "other", "404") == 1
    sample = sample_of(metrics, HTTP_DURATION, "/a", "200")
    assert isinstance(sample, Histogram)
    assert sample.total == pytest.approx(0.006)


def test_a_call_of_the_model_is_counted_once_whatever_its_size(metrics: Metrics) -> None:
    metrics.scored(100, 0.02)
    assert count_of(metrics, INFERENCE_DURATION) == count_of(metrics, BATCH_SIZE) == 1
    sizes = sample_of(metrics, BATCH_SIZE)
    assert isinstance(sizes, Histogram)
    assert sizes.total == 100


def test_predictions_are_counted_by_outcome_and_remembered_in_order(metrics: Metrics) -> None:
    before = time.perf_counter()
    metrics.predicted([1])
    metrics.predicted([0])
    metrics.predicted([0, 1, 0])
    assert count_of(metrics, PREDICTIONS, "v1", "churn") == 2
    assert count_of(metrics, PREDICTIONS, "v1", "no_churn") == 3
    assert [moment > 0 for moment in metrics.recent] == [True, False, False, True, False]
    moments = [abs(moment) for moment in metrics.recent]
    assert moments == sorted(moments)
    assert before <= moments[0] <= moments[-1] <= time.perf_counter()


def test_only_the_last_predictions_are_remembered(metrics: Metrics) -> None:
    for _ in range(ROLLING_WINDOW):
        metrics.predicted([1])
    metrics.predicted([0] * 100)
    assert len(metrics.recent) == ROLLING_WINDOW == 1000
    assert sum(moment > 0 for moment in metrics.recent) == 900


def test_an_error_is_counted_by_the_name_of_its_class(metrics: Metrics) -> None:
    for error in (ValidationFailedError("no"), ValidationFailedError("no"), KeyError()):
        metrics.failed("/predict", error)
    assert count_of(metrics, ERRORS, "/predict", "ValidationFailedError") == 2
    assert count_of(metrics, ERRORS, "/predict", "KeyError") == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (QueueFullError, "queue_full"),
        (DeadlineUnreachableError, "deadline"),
        (TooManyBodiesError, "slow_bodies"),
        (BreakerOpenError, "breaker_open"),
    ],
)
def test_what_is_shed_is_counted_by_its_reason(
    error: type[ShedError], reason: str, metrics: Metrics
) -> None:
    metrics.shed(error("no"))
    assert count_of(metrics, SHED, reason) == 1


def test_gauges_and_totals_are_set_and_not_added_to(metrics: Metrics) -> None:
    for value in (3, 5):
        metrics.gauge(HTTP_IN_FLIGHT, value)
        metrics.total(CPU_SECONDS, value)
    assert sample_of(metrics, HTTP_IN_FLIGHT) == Gauge(5)
    assert sample_of(metrics, CPU_SECONDS) == Counter(5)


def test_the_warm_up_is_forgotten_but_not_what_the_process_is(metrics: Metrics) -> None:
    metrics.answered("/health/ready", 503, 0.001)
    metrics.total(CPU_SECONDS, 1.5)
    metrics.predicted([0, 1])
    metrics.scored(2, 0.01)
    metrics.waited(0.01)
    metrics.missed_deadline()
    metrics.failed("/predict", KeyError())
    metrics.forget_predictions()
    assert not metrics.recent
    assert count_of(metrics, PREDICTIONS, "v1", "churn") == 0
    assert count_of(metrics, PREDICTIONS, "v1", "no_churn") == 0
    # Requests were refused meanwhile, and those were somebody's.
    assert count_of(metrics, DEADLINE_MISSED) == 1
    assert count_of(metrics, ERRORS, "/predict", "KeyError") == 1
    for family in (INFERENCE_DURATION, BATCH_SIZE, QUEUE_WAIT):
        sample = sample_of(metrics, family)
        assert sample == Histogram(family.bounds)
    assert count_of(metrics, HTTP_DURATION, "/health/ready", "503") == 1
    assert sample_of(metrics, CPU_SECONDS) == Counter(1.5)
    # It goes on counting.
    metrics.predicted([1])
    metrics.scored(1, 0.01)
    assert count_of(metrics, PREDICTIONS, "v1", "churn") == 1
    assert count_of(metrics, BATCH_SIZE) == 1


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_family_is_named_as_prometheus_wants_it(family: Family) -> None:
    assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
    assert "milli" not in family.name
    assert family.help.endswith(".")
    assert (family.kind == "histogram") == bool(family.bounds)
    assert sorted(set(family.bounds)) == list(family.bounds)
    assert "le" not in family.labels
