"""The metrics of all processes as one, in Prometheus's text format.

Each process writes its own figures into a folder once a second (a whole file at a time, so a reader
never sees half of one), and whoever is asked merges them. prometheus_client's own multi-process
mode maps files into memory instead: on a full disk that ends the process with a signal nobody can
catch, while here it is an error that is counted and overcome.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from pydantic_core import from_json, to_json

from churn_serving.telemetry.metrics import (
    CHURN_RATE_ROLLING,
    FAMILIES,
    ROLLING_WINDOW,
    WORKERS_READY,
    Counter,
    Family,
    Gauge,
    Histogram,
    Metrics,
    Sample,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["Exchange", "exposition", "says_ready"]

FRESH_SECONDS: Final = 15.0
"""A process that has not written for so long is taken for dead, or as good as."""

Samples: TypeAlias = dict[str, dict[tuple[str, ...], Sample]]


@dataclass(frozen=True, slots=True)
class _Figures:
    """What one process has counted, as read from its file.

    Attributes:
        samples: The family's name, the labels, the value or the buckets and the sum.
        recent: See ``Metrics.recent``.
        alive: Whether the process is still there: a dead one's counters remain, for a total must
            not shrink; its gauges are gone.
    """

    samples: list[tuple[str, tuple[str, ...], Sample]]
    recent: Sequence[float]
    alive: bool


class Exchange:
    """Where processes leave their figures for each other.

    Args:
        folder: Of the running service alone; emptied before it starts. None: there is but one
            process.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        # A process number may be used again; the figures of its first owner must not be lost.
        self._name = f"{os.getpid()}-{time.time_ns()}.json"

    def write(self, metrics: Metrics) -> None:
        """Leave this process's figures.

        Raises:
            OSError: The folder cannot be written; what was there remains.
        """
        if self._folder is None:
            return
        document = {
            "samples": [
                (family.name, labels, _values(sample)) for family, labels, sample in metrics
            ],
            "recent": list(metrics.recent),
        }
        draft = self._folder / f"{self._name}.draft"
        try:
            draft.write_bytes(to_json(document))
            draft.replace(self._folder / self._name)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise

    def read(self) -> Iterator[_Figures]:
        """Return the other processes' figures."""
        if self._folder is None:
            return
        for path in sorted(self._folder.glob("*-*.json")):
            if path.name == self._name:
                continue
            try:
                document: dict[str, Any] = from_json(path.read_bytes())
                age = time.time() - path.stat().st_mtime
            except (OSError, ValueError):
                continue  # another second, another try
            samples = [
                (name, tuple(labels), _sample(FAMILIES[name], values))
                for name, labels, values in document["samples"]
            ]
            alive = age < FRESH_SECONDS and _runs(int(path.name.partition("-")[0]))
            yield _Figures(samples, document["recent"], alive)


def says_ready(folder: Path, pid: int, known: Collection[str]) -> bool | None:
    """Return whether a process is ready for requests, by the figures it has left.

    Args:
        folder: Where processes leave them.
        pid: Of the process.
        known: Names of files that are none of its own, but of one that had its id before.

    Returns:
        None while it has left none.
    """
    for path in folder.glob(f"{pid}-*.json"):
        if path.name not in known:
            samples = from_json(path.read_bytes())["samples"]
            return any(name == WORKERS_READY.name and value for name, _, value in samples)
    return None


def exposition(metrics: Metrics, exchange: Exchange) -> bytes:
    """Return the metrics of all processes together.

    Args:
        metrics: What this process has counted; its own figures are never a second old.
        exchange: Has the others'.
    """
    own = [(family.name, labels, sample) for family, labels, sample in metrics]
    merged, recent = _merged([_Figures(own, list(metrics.recent), alive=True), *exchange.read()])
    if recent:
        rate = sum(moment > 0 for moment in recent) / len(recent)
        merged[CHURN_RATE_ROLLING.name] = {(metrics.model_version,): Gauge(rate)}
    registry = CollectorRegistry()
    registry.register(_Merged(merged))
    return generate_latest(registry)


class _Merged(Collector):
    """Hands samples to prometheus_client, which writes them down."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        for name, family in FAMILIES.items():
            if samples := self._samples.get(name):
                yield _metric(family, samples)


def _metric(family: Family, samples: dict[tuple[str, ...], Sample]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, sample in samples.items():
            if isinstance(sample, Histogram):
                bounds = (*family.bounds, float("inf"))
                buckets = zip(map(floatToGoString, bounds), accumulate(sample.counts), strict=True)
                histogram.add_metric(labels, list(buckets), sample.total)
        return histogram
    simple = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = simple(family.name, family.help, labels=family.labels)
    for labels, sample in samples.items():
        if not isinstance(sample, Histogram):
            metric.add_metric(labels, sample.value)
    return metric


def _merged(processes: list[_Figures]) -> tuple[Samples, list[float]]:
    """Return the samples of all processes together, and the last predictions of them all."""
    merged: Samples = {}
    recent: list[float] = []
    for figures in processes:
        recent.extend(figures.recent)
        for name, labels, sample in figures.samples:
            if not figures.alive and isinstance(sample, Gauge):
                continue
            family = merged.setdefault(name, {})
            before = family.get(labels)
            family[labels] = sample if before is None else _together(name, before, sample)
    recent.sort(key=abs)
    return merged, recent[-ROLLING_WINDOW:]


def _together(name: str, one: Sample, other: Sample) -> Sample:
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        counts = [a + b for a, b in zip(one.counts, other.counts, strict=True)]
        return Histogram(one.bounds, counts, one.total + other.total)
    if isinstance(one, Counter) and isinstance(other, Counter):
        return Counter(one.value + other.value)
    if isinstance(one, Gauge) and isinstance(other, Gauge):
        values = one.value, other.value
        merge = FAMILIES[name].merge
        return Gauge(sum(values) if merge == "sum" else (max if merge == "max" else min)(values))
    raise TypeError(f"{name} is of two kinds")


def _values(sample: Sample) -> float | list[float]:
    """Return a sample as JSON has it; ``_sample`` reads it back."""
    return [*sample.counts, sample.total] if isinstance(sample, Histogram) else sample.value


def _sample(family: Family, values: Any) -> Sample:  # noqa: ANN401 - JSON
    if family.kind == "histogram":
        return Histogram(family.bounds, [int(count) for count in values[:-1]], values[-1])
    return Counter(values) if family.kind == "counter" else Gauge(values)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
