from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from churn_serving.telemetry import reporting
from churn_serving.telemetry.exposition import Exchange
from churn_serving.telemetry.metrics import (
    CPU_SECONDS,
    FDS_EXHAUSTED,
    HTTP_IN_FLIGHT,
    OPEN_FDS,
    RESIDENT_MEMORY,
    START_TIME,
    WRITE_ERRORS,
    Gauge,
    Metrics,
)
from churn_serving.telemetry.process import Process, Siblings
from churn_serving.telemetry.reporting import Reporter
from tests.doubles import Clock, count_of, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(model_version="v1")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reporting, "monotonic", clock)
    return clock


def _reporter(
    metrics: Metrics,
    *,
    exchange: Exchange | None = None,
    siblings: Siblings | None = None,
    log_interval: float = 60,
    gauges: Callable[[], None] = lambda: None,
) -> Reporter:
    return Reporter(
        metrics=metrics,
        exchange=exchange or Exchange(None),
        process=Process(),
        siblings=siblings or Siblings(expected=1),
        log_interval=log_interval,
        no_traffic=("/health/ready",),
        gauges=gauges,
    )


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


def _lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the figures of each line about the traffic."""
    names = (
        *("seconds", "requests", "refused_4xx", "failed_5xx", "mean_ms", "customers"),
        *("churn_rate", "model_calls", "mean_batch_size", "mean_model_ms"),
    )
    return [
        {name: vars(record)[name] for name in names}
        for record in caplog.records
        if record.message == "Traffic"
    ]


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "churn_serving")
    return caplog


def test_a_line_says_what_has_happened_since_the_last_one(
    metrics: Metrics, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = _reporter(metrics)
    for status, seconds in ((200, 0.01), (200, 0.03), (422, 0.002), (500, 0.002), (504, 0.006)):
        metrics.answered("/predict", status, seconds)
    metrics.predicted([1, 0, 0])
    metrics.predicted([1])
    metrics.scored(3, 0.004)
    metrics.scored(1, 0.002)
    clock.now += 60
    reporter._log_traffic()
    metrics.answered("/predict", 200, 0.001)
    metrics.answered("/openapi.json", 200, 0.003)
    metrics.answered("/health/ready", 503, 0.001)  # a probe is no traffic
    metrics.predicted([0])
    metrics.scored(1, 0.0005)
    clock.now += 61.26
    reporter._log_traffic()
    assert _lines(caplog) == [
        {
            "seconds": 60.0,
            "requests": 5,
            "refused_4xx": 1,
            "failed_5xx": 2,
            "mean_ms": 10.0,
            "customers": 4,
            "churn_rate": 0.5,
            "model_calls": 2,
            "mean_batch_size": 2.0,
            "mean_model_ms": 3.0,
        },
        {
            "seconds": 61.3,
            "requests": 2,
            "refused_4xx": 0,
            "failed_5xx": 0,
            "mean_ms": 2.0,
            "customers": 1,
            "churn_rate": 0.0,
            "model_calls": 1,
            "mean_batch_size": 1.0,
            "mean_model_ms": 0.5,
        },
    ]


def test_nothing_is_said_when_nothing_has_happened(
    metrics: Metrics, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = _reporter(metrics)
    for _ in range(5):
        clock.now += 60
        reporter._log_traffic()
    assert _lines(caplog) == []


def test_a_line_comes_once_in_an_interval(
    metrics: Metrics,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def second() -> None:
        metrics.answered("/predict", 200, 0.001)
        clock.now += 1

    async def scenario() -> None:
        task = asyncio.create_task(_reporter(metrics, log_interval=10, gauges=second).run())
        await _until(lambda: clock.now >= start + 35)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    start = clock.now
    monkeypatch.setattr(reporting, "REFRESH_SECONDS", 0.001)
    asyncio.run(scenario())
    *regular, last = _lines(caplog)
    assert [(line["requests"], line["seconds"]) for line in regular[:3]] == [(10, 10)] * 3
    # And the rest at the end.
    assert sum(line["requests"] for line in (*regular, last)) == clock.now - start


def test_requests_that_never_reached_the_model_do_not_break_the_line(
    metrics: Metrics, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = _reporter(metrics)
    metrics.answered("other", 404, 0.001)
    clock.now += 60
    reporter._log_traffic()
    (line,) = _lines(caplog)
    assert line["refused_4xx"] == 1
    assert line["churn_rate"] == line["mean_batch_size"] == line["mean_model_ms"] == 0


def test_the_gauges_are_set_before_they_are_written(metrics: Metrics) -> None:
    in_flight = iter((3, 5))
    reporter = _reporter(metrics, gauges=lambda: metrics.gauge(HTTP_IN_FLIGHT, next(in_flight)))
    for expected in (3, 5):
        reporter.refresh()
        assert sample_of(metrics, HTTP_IN_FLIGHT) == Gauge(expected)
    for family in (RESIDENT_MEMORY, OPEN_FDS, START_TIME, CPU_SECONDS):
        sample = sample_of(metrics, family)
        assert getattr(sample, "value", 0) > 0


def test_a_full_disk_is_counted_each_time_told_once_and_overcome(
    metrics: Metrics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = Exchange(tmp_path)
    reporter = _reporter(metrics, exchange=exchange)
    draft = tmp_path / f"{exchange._name}.draft"

    def told() -> int:
        return len([r for r in caplog.records if "cannot be written" in r.message])

    for failures in (1, 2, 3):
        draft.symlink_to("/dev/full")
        reporter.refresh()
        assert count_of(metrics, WRITE_ERRORS) == failures
        assert told() == 1
    reporter.refresh()
    assert count_of(metrics, WRITE_ERRORS) == 3
    assert (tmp_path / exchange._name).exists()
    # The next time is news again.
    draft.symlink_to("/dev/full")
    reporter.refresh()
    assert told() == 2


def test_it_reports_each_second_and_once_more_at_the_end(
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Counted(Siblings):
        refreshes = 0

        def refresh(self) -> None:
            self.refreshes += 1

    monkeypatch.setattr(reporting, "REFRESH_SECONDS", 0.01)
    exchange, reader = Exchange(tmp_path), Exchange(tmp_path)
    written = 0

    def gauges() -> None:
        nonlocal written
        written += 1
        metrics.gauge(HTTP_IN_FLIGHT, written)

    def seen() -> float:
        (figures,) = reader.read()
        (value,) = (s.value for name, _, s in figures.samples if name == HTTP_IN_FLIGHT.name)  # type: ignore[union-attr] # a gauge
        return value

    async def scenario() -> None:
        task = asyncio.create_task(reporter.run())
        await _until(lambda: written >= 12)
        assert seen() == written
        # Those take longer: every fifth time.
        assert written // 5 <= siblings.refreshes <= written // 5 + 1
        metrics.answered("/predict", 200, 0.001)
        before = written
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen() == before + 1

    siblings = Counted(expected=1)
    reporter = _reporter(metrics, exchange=exchange, siblings=siblings, gauges=gauges)
    asyncio.run(scenario())
    assert [line["requests"] for line in _lines(caplog)] == [1]


def test_it_goes_on_reporting_whatever_a_gauge_raises(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "REFRESH_SECONDS", 0.001)
    calls = 0

    def gauges() -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("no such file in /proc")

    async def scenario() -> None:
        task = asyncio.create_task(_reporter(metrics, gauges=gauges).run())
        await _until(lambda: calls >= 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert count_of(metrics, WRITE_ERRORS) >= 3


def test_a_worker_without_a_free_descriptor_counts_it_and_warns_once_a_minute(
    metrics: Metrics,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Process, "is_out_of_descriptors", True)
    seconds = 0

    async def a_second(_: float) -> None:
        nonlocal seconds
        seconds += 1
        clock.now += 1
        if seconds == 61:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", a_second)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(_reporter(metrics, log_interval=1000).run())
    assert count_of(metrics, FDS_EXHAUSTED) == 61
    assert caplog.text.count("No file descriptor is free") == 2
