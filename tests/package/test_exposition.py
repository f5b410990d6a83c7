from __future__ import annotations

import errno
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from churn_serving.telemetry.exposition import FRESH_SECONDS, Exchange, exposition
from churn_serving.telemetry.metrics import (
    BATCH_SIZE,
    BREAKER_STATE,
    BUILD_INFO,
    CPU_SECONDS,
    FAMILIES,
    HTTP_IN_FLIGHT,
    QUEUE_DEPTH,
    ROLLING_WINDOW,
    START_TIME,
    WORKERS_LIVE,
    Metrics,
)

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import Metric

# Above the largest number that Linux gives a process.
NO_PROCESS: Final = 2**22 + 1
RATE: Final = 'ml_churn_rate_rolling{model_version="v1"}'

# Dashboards and alerts are written against these.
CONTRACT: Final = {
    "http_request_duration_seconds": ("histogram", {"route", "status"}),
    "http_requests_in_flight": ("gauge", set()),
    "ml_predictions": ("counter", {"model_version", "outcome"}),
    "ml_decisions": ("counter", {"action"}),
    "ml_expected_profit": ("counter", set()),
    "ml_reasons": ("counter", {"code", "direction"}),
    "ml_churn_rate_rolling": ("gauge", {"model_version"}),
    "ml_inference_duration_seconds": ("histogram", set()),
    "ml_batch_size": ("histogram", set()),
    "ml_errors": ("counter", {"endpoint", "error_type"}),
    "ml_queue_wait_seconds": ("histogram", set()),
    "ml_queue_depth": ("gauge", set()),
    "ml_queue_capacity": ("gauge", set()),
    "ml_shed": ("counter", {"reason"}),
    "ml_deadline_missed": ("counter", set()),
    "ml_breaker_state": ("gauge", set()),
    "ml_breaker_opened": ("counter", set()),
    "ml_model_memory_bytes": ("gauge", {"model_version"}),
    "ml_model_pickled": ("gauge", set()),
    "ml_model_info": ("gauge", {"model_name", "model_version", "estimator"}),
    "ml_build_info": ("gauge", {"version", "git_commit", "python", "bentoml", "scikit_learn"}),
    "ml_workers": ("gauge", set()),
    "ml_workers_live": ("gauge", set()),
    "ml_workers_ready": ("gauge", set()),
    "ml_metrics_write_errors": ("counter", set()),
    "ml_fds_exhausted": ("counter", set()),
    "process_resident_memory_bytes": ("gauge", set()),
    "process_cpu_seconds": ("counter", set()),
    "process_open_fds": ("gauge", set()),
    "process_start_time_seconds": ("gauge", set()),
}


class Worker:
    """One process's part, in this process."""

    def __init__(self, folder: Path | None) -> None:
        self.metrics = Metrics(model_version="v1")
        self.exchange = Exchange(folder)

    def write(self) -> Worker:
        self.exchange.write(self.metrics)
        return self

    def dies(self) -> None:
        """Leave the figures behind as those of a process that is gone."""
        folder = self.exchange._folder
        assert folder is not None
        (folder / self.exchange._name).rename(folder / f"{NO_PROCESS}-{time.time_ns()}.json")

    @property
    def seen(self) -> dict[str, float]:
        """Every sample, written as Prometheus writes it: ``name{label="value"}``."""
        samples = {}
        for family in self.families:
            for sample in family.samples:
                labels = ",".join(f'{key}="{value}"' for key, value in sample.labels.items())
                samples[sample.name + (labels and f"{{{labels}}}")] = sample.value
        return samples

    @property
    def families(self) -> list[Metric]:
        text = exposition(self.metrics, self.exchange).decode()
        return list(text_string_to_metric_families(text))


@pytest.fixture
def workers(tmp_path: Path) -> tuple[Worker, Worker, Worker]:
    return Worker(tmp_path), Worker(tmp_path), Worker(tmp_path)


def test_the_families_are_those_of_the_contract() -> None:
    assert {
        name: (family.kind, set(family.labels)) for name, family in FAMILIES.items()
    } == CONTRACT


def test_every_family_is_exposed_with_its_type_its_help_and_its_labels() -> None:
    worker = Worker(None)
    for family in FAMILIES.values():
        labels = [f"a {label}" for label in family.labels]
        if family.kind == "gauge":
            worker.metrics.gauge(family, 1, *labels)
        elif family.kind == "counter":
            worker.metrics.total(family, 1, *labels)
        else:
            worker.metrics._histogram(family, *labels).observe(0.5)
    worker.metrics.predicted([1])
    exposed = {family.name: family for family in worker.families}
    assert set(exposed) == set(FAMILIES)
    for name, family in FAMILIES.items():
        assert exposed[name].type == family.kind
        assert exposed[name].documentation == family.help
        for sample in exposed[name].samples:
            assert set(sample.labels) - {"le"} == set(family.labels)


def test_a_histogram_is_exposed_with_cumulated_buckets() -> None:
    worker = Worker(None)
    for size in (1, 1, 3, 256, 5000):
        worker.metrics.scored(size, 0.1)
    seen = worker.seen
    buckets = [seen[f'ml_batch_size_bucket{{le="{float(le)}"}}'] for le in BATCH_SIZE.bounds]
    assert buckets == [2, 2, 3, 3, 3, 3, 3, 3, 4, 4, 4]
    assert seen['ml_batch_size_bucket{le="+Inf"}'] == seen["ml_batch_size_count"] == 5
    assert seen["ml_batch_size_sum"] == 5261


def test_what_nobody_has_counted_is_not_exposed() -> None:
    assert RATE not in Worker(None).seen
    assert not [name for name in Worker(None).seen if name.startswith("http_request_duration")]


def test_a_label_from_outside_cannot_forge_a_line() -> None:
    worker = Worker(None)
    worker.metrics.gauge(BUILD_INFO, 1, 'a"b\n# TYPE x counter\nx 1', "c", "3", "1", "1")
    assert "x" not in worker.seen
    assert "x 1" not in exposition(worker.metrics, worker.exchange).decode().splitlines()


def test_the_processes_are_one_to_whoever_asks(workers: tuple[Worker, Worker, Worker]) -> None:
    for number, worker in enumerate(workers, start=1):
        for _ in range(number):
            worker.metrics.answered("/predict", 200, 0.1)
            worker.metrics.predicted([1])
        worker.metrics.scored(2**number, number)
        worker.metrics.gauge(QUEUE_DEPTH, 10 * number)
        worker.metrics.gauge(BREAKER_STATE, number % 3)
        worker.metrics.gauge(START_TIME, 1000 + number)
        worker.metrics.total(CPU_SECONDS, number / 10)
        worker.write()
    for worker in workers:
        seen = worker.seen
        assert seen['http_request_duration_seconds_count{route="/predict",status="200"}'] == 6
        assert seen['ml_predictions_total{model_version="v1",outcome="churn"}'] == 6
        assert seen['ml_batch_size_bucket{le="4.0"}'] == 2
        assert seen["ml_batch_size_count"] == 3
        assert seen["ml_batch_size_sum"] == 14
        assert seen["ml_inference_duration_seconds_sum"] == 6
        assert seen["ml_queue_depth"] == 60
        assert seen["ml_breaker_state"] == 2
        assert seen["process_start_time_seconds"] == 1001
        assert seen["process_cpu_seconds_total"] == pytest.approx(0.6)


def test_a_series_of_one_process_is_a_series_of_all(
    workers: tuple[Worker, Worker, Worker],
) -> None:
    first, second, _ = workers
    first.metrics.answered("/predict", 200, 0.1)
    second.metrics.answered("/predict", 504, 5)
    second.write()
    assert {
        name: value for name, value in first.seen.items() if "duration_seconds_count{" in name
    } == {
        'http_request_duration_seconds_count{route="/predict",status="200"}': 1,
        'http_request_duration_seconds_count{route="/predict",status="504"}': 1,
    }


def test_its_own_figures_are_those_of_now_and_are_not_counted_twice(
    workers: tuple[Worker, Worker, Worker],
) -> None:
    worker = workers[0]
    worker.metrics.gauge(HTTP_IN_FLIGHT, 5)
    worker.write()
    worker.metrics.gauge(HTTP_IN_FLIGHT, 7)
    assert worker.seen["http_requests_in_flight"] == 7
    assert workers[1].seen["http_requests_in_flight"] == 5


def test_asking_changes_nothing(workers: tuple[Worker, Worker, Worker]) -> None:
    for worker in workers:
        worker.metrics.scored(1, 0.1)
        worker.write()
    assert workers[0].seen == workers[0].seen == workers[1].seen


def test_of_a_dead_process_the_counters_remain_and_the_gauges_go(
    workers: tuple[Worker, Worker, Worker],
) -> None:
    for worker in workers:
        worker.metrics.gauge(WORKERS_LIVE, 1)
        worker.metrics.gauge(START_TIME, 2000 - (worker is workers[2]))
        worker.metrics.missed_deadline()
        worker.metrics.scored(1, 0.1)
        worker.metrics.predicted([1 if worker is workers[2] else 0])
        worker.write()
    assert workers[0].seen["ml_workers_live"] == 3
    workers[2].dies()
    seen = workers[0].seen
    assert seen["ml_workers_live"] == 2
    assert seen["process_start_time_seconds"] == 2000
    assert seen["ml_deadline_missed_total"] == 3
    assert seen["ml_batch_size_count"] == 3
    assert seen[RATE] == pytest.approx(1 / 3)


def test_a_process_that_has_not_written_for_long_is_taken_for_dead(
    workers: tuple[Worker, Worker, Worker], tmp_path: Path
) -> None:
    for worker in workers:
        worker.metrics.gauge(WORKERS_LIVE, 1)
        worker.metrics.missed_deadline()
        worker.write()
    silent = tmp_path / workers[1].exchange._name
    for seconds, live in ((0, 3), (FRESH_SECONDS + 1, 2)):
        os.utime(silent, (time.time() - seconds,) * 2)
        assert workers[0].seen["ml_workers_live"] == live
        assert workers[0].seen["ml_deadline_missed_total"] == 3


def test_a_process_number_that_is_used_again_does_not_overwrite_its_first_owner(
    tmp_path: Path,
) -> None:
    for _ in range(3):  # each has the number of this process
        worker = Worker(tmp_path)
        worker.metrics.missed_deadline()
        worker.write()
    assert Worker(tmp_path).seen["ml_deadline_missed_total"] == 3


def test_the_rolling_churn_rate_is_of_exactly_the_last_predictions_of_all(
    workers: tuple[Worker, Worker, Worker],
) -> None:
    first, second, third = workers
    first.metrics.predicted([1] * 900)
    second.metrics.predicted([0] * 600)
    third.metrics.predicted([1] * 300)
    for worker in workers:
        worker.write()
    # The first 800 of the first worker have left the window: 100 + 300 of 1,000 remain.
    assert [worker.seen[RATE] for worker in workers] == [0.4] * 3
    first.metrics.predicted([0] * 100)
    first.write()
    assert [worker.seen[RATE] for worker in workers] == [0.3] * 3


def test_the_rolling_churn_rate_goes_by_time_and_not_by_process(
    workers: tuple[Worker, Worker, Worker],
) -> None:
    first, second, third = workers
    for index in range(2 * ROLLING_WINDOW):
        first.metrics.predicted([1 if index < ROLLING_WINDOW else 0])
        second.metrics.predicted([0 if index % 2 else 1])
    for worker in workers:
        worker.write()
    # The last 500 of each: none of the first worker, half of the second.
    assert third.seen[RATE] == 0.25


def test_the_rolling_churn_rate_of_a_few_predictions_is_of_those() -> None:
    worker = Worker(None)
    worker.metrics.predicted([1, 0, 0])
    assert worker.seen[RATE] == pytest.approx(1 / 3)


def test_alone_a_process_needs_no_folder() -> None:
    worker = Worker(None).write()
    worker.metrics.missed_deadline()
    assert worker.seen["ml_deadline_missed_total"] == 1


def test_a_full_disk_is_an_error_and_loses_nothing(
    workers: tuple[Worker, Worker, Worker], tmp_path: Path
) -> None:
    worker, other, _ = workers
    worker.metrics.missed_deadline()
    worker.write()
    draft = tmp_path / f"{worker.exchange._name}.draft"
    draft.symlink_to("/dev/full")
    worker.metrics.missed_deadline()
    with pytest.raises(OSError, match="No space left") as failed:
        worker.write()
    assert failed.value.errno == errno.ENOSPC
    assert not draft.is_symlink()  # half a file would only take room
    assert other.seen["ml_deadline_missed_total"] == 1
    worker.write()
    assert other.seen["ml_deadline_missed_total"] == 2


def test_a_folder_that_is_gone_is_an_error_and_the_own_figures_are_still_exposed(
    tmp_path: Path,
) -> None:
    worker = Worker(tmp_path / "gone")
    worker.metrics.missed_deadline()
    with pytest.raises(FileNotFoundError):
        worker.write()
    assert worker.seen["ml_deadline_missed_total"] == 1


@pytest.mark.parametrize("rubbish", [b"", b'{"samples": [["ml_', b"\xff\xfe"], ids=repr)
def test_a_file_that_cannot_be_read_is_left_out(rubbish: bytes, tmp_path: Path) -> None:
    (tmp_path / f"{os.getpid()}-1.json").write_bytes(rubbish)
    worker = Worker(tmp_path).write()
    worker.metrics.missed_deadline()
    assert Worker(tmp_path).seen["ml_deadline_missed_total"] == 0
    assert worker.seen["ml_deadline_missed_total"] == 1


def test_a_draft_is_not_read(workers: tuple[Worker, Worker, Worker], tmp_path: Path) -> None:
    workers[0].metrics.missed_deadline()
    workers[0].write()
    whole = (tmp_path / workers[0].exchange._name).read_bytes()
    for draft in (whole, whole[: len(whole) // 2]):
        (tmp_path / f"{os.getpid()}-1.json.draft").write_bytes(draft)
        assert workers[1].seen["ml_deadline_missed_total"] == 1


def test_nobody_ever_sees_half_of_what_is_written(tmp_path: Path) -> None:
    writer, reader = Worker(tmp_path), Worker(tmp_path)
    writer.metrics.predicted([1] * ROLLING_WINDOW)  # so that a file has many pages
    for status in range(200, 600):
        writer.metrics.answered("/predict", status, 0.1)
    writer.write()
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            writer.write()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(300):
            (figures,) = reader.exchange.read()
            assert len(figures.recent) == ROLLING_WINDOW
            assert figures.alive
    finally:
        stop.set()
        thread.join()


def test_the_files_hold_figures_only(
    workers: tuple[Worker, Worker, Worker], tmp_path: Path
) -> None:
    workers[0].write()
    (path,) = tmp_path.iterdir()
    assert set(json.loads(path.read_text())) == {"samples", "recent"}
