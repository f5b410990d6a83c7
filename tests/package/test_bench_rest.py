"""Memory at rest and time to ready, beside an empty service that differs in nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from bench.harness.comparison import Absence
from bench.harness.environment import Environment
from bench.harness.rest import Rest, Start, document, introduction, outcomes, tables
from bench.harness.stand import Bench
from bench.harness.workload import Workload
from bench.interval import around_the_median
from bench.kinds import LOGISTIC
from bench.servers.empty import EMPTY
from bench.servers.empty.service import Empty
from bench.servers.ours import OURS
from bench.tables import markdown
from churn_serving.runtime.assemble import service_options
from churn_serving.settings import Settings

EMPTY_SERVICE: Any = Empty
"""BentoML's decorator is typed as if it returned the class itself."""


def starts(server: str, *figures: tuple[float, float, float]) -> list[Start]:
    return [Start(server, LOGISTIC, number, *each) for number, each in enumerate(figures, 1)]


def found(*seen: Start, absences: tuple[Absence, ...] = ()) -> Rest:
    environment = Environment(Path("python"), "1.2.3", packages=10, size_mb=200)
    environments = dict.fromkeys((OURS.name, EMPTY.name), environment)
    workload = Workload(Path(), (), {})
    bench = Bench([OURS, EMPTY], [LOGISTIC], environments, workload, Path(), Path())
    return Rest(bench, seen, absences)


def test_a_ratio_is_that_of_one_round() -> None:
    # The machine becomes slower from round to round; the ratio does not.
    ours = starts(OURS.name, (1.2, 50, 60), (2.4, 50, 60), (4.8, 50, 60))
    empty = starts(EMPTY.name, (1, 40, 60), (2, 40, 60), (4, 40, 60))
    seen = found(*ours, *empty)
    ready = seen.over_empty(lambda start: start.ready_seconds, OURS.name, LOGISTIC)
    memory = seen.over_empty(lambda start: start.total_mb, OURS.name, LOGISTIC)
    assert ready is not None
    assert memory is not None
    assert (ready.low, ready.median, ready.high) == pytest.approx((1.2, 1.2, 1.2))
    assert memory.median == pytest.approx(1.1)
    assert [outcome.met for outcome in outcomes(seen)] == [True, True]


def test_a_round_that_only_one_of_them_has_does_not_count() -> None:
    ours = starts(OURS.name, (9, 90, 90), (2, 50, 50))
    empty = starts(EMPTY.name, (1, 40, 60), (1, 40, 40))[1:]
    seen = found(*ours, *empty)
    ratio = seen.over_empty(lambda start: start.total_mb, OURS.name, LOGISTIC)
    assert ratio is not None
    assert ratio.median == 1.25
    assert [outcome.met for outcome in outcomes(seen)] == [False, False]


def test_without_the_empty_service_nothing_was_promised() -> None:
    seen = found(*starts(OURS.name, (1, 50, 60)))
    assert outcomes(seen) == []
    ((_, _, (row,)),) = tables(seen)
    assert row == (OURS.title, "1.00", "", "50.0", "60.0", "110.0", "")


def test_everything_at_rest_is_written_down() -> None:
    ours = starts(OURS.name, (1.2, 50, 70), (1.1, 50, 70))
    empty = starts(EMPTY.name, (1, 40, 60), (1, 40, 60))
    absent = Absence("another", LOGISTIC, 0, "It did not start.")
    seen = found(*ours, *empty, absences=(absent,))
    text = markdown(tables(seen))
    assert "| 1.15 | 1.15 (1.10 to 1.20) | 50.0 | 70.0 | 120.0 | 1.20 (1.20 to 1.20) |" in text
    assert f"| another | {LOGISTIC} | 0 | It did not start. |" in text
    assert "| at most 1.15x | 1.20x | MISSED |" in text
    assert "7 starts" in introduction(7)
    assert "98% confidence" in introduction(7)
    made = json.loads(json.dumps(document(seen, {"cpu": "c"})))
    assert len(made["starts"]) == 4


@pytest.mark.parametrize(
    ("count", "left_out", "confidence"), [(1, 0, 0), (5, 0, 0.9375), (7, 0, 0.984), (20, 5, 0.959)]
)
def test_the_median_of_more_figures_is_known_better(
    count: int, left_out: int, confidence: float
) -> None:
    interval = around_the_median([float(number) for number in reversed(range(count))])
    assert interval.median == (count - 1) / 2
    assert (interval.low, interval.high) == (left_out, count - 1 - left_out)
    assert interval.confidence == pytest.approx(confidence, abs=1e-3)


def test_the_empty_service_is_told_what_ours_is_told() -> None:
    told = service_options(Settings(workers=1))
    environment = {each["name"] for each in told.pop("envs")}
    assert {name: EMPTY_SERVICE.config[name] for name in told} == told
    assert {each.name for each in EMPTY_SERVICE.envs} == environment
    assert EMPTY_SERVICE.config["workers"] == 1


def test_the_empty_service_answers_whatever_it_is_asked() -> None:
    (route,) = EMPTY.routes
    with TestClient(EMPTY_SERVICE.to_asgi()) as client:
        answer = client.post(route.path, json={"tenure_months": 12})
    assert route.decode(answer.json()) == [0.5]
