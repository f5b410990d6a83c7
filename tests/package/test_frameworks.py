from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.customers import customers
from benchmarks.frameworks.comparison import Absence, Comparison, outcomes
from benchmarks.frameworks.environment import Environment
from benchmarks.frameworks.overload import Overload
from benchmarks.frameworks.registry import FRAMEWORKS, OURS
from benchmarks.frameworks.report import write_json, write_markdown
from benchmarks.frameworks.rows import CONTRACT_TYPES, PAYMENT_METHODS, row
from benchmarks.frameworks.stop import Stop
from benchmarks.frameworks.trial import Paced, Trial
from benchmarks.load import Sample
from benchmarks.servers import LOGISTIC, TREE
from churn_serving.features import columns
from churn_serving.features.rows import customer_row

if TYPE_CHECKING:
    from benchmarks.frameworks.framework import Framework

CUSTOMERS = customers()
OTHERS = [framework for framework in FRAMEWORKS.values() if framework is not OURS]


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_each_framework_has_a_lock_with_hashes_and_without_addresses(framework: Framework) -> None:
    lock = (framework.folder / "requirements.txt").read_text()
    pins = re.findall(r"^[\w.\-\[\]]+==\S+", lock, re.MULTILINE)
    assert any(pin.partition("==")[0].partition("[")[0] == framework.package for pin in pins)
    assert lock.count("--hash=sha256:") >= len(pins)
    assert "://" not in "".join(line for line in lock.splitlines() if not line.startswith("    #"))


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_a_request_is_one_line_of_json(framework: Framework) -> None:
    request = framework.encode(CUSTOMERS[0])
    assert json.loads(request)
    # wrk and the pacer read one request a line.
    assert b"\n" not in request


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_what_is_no_prediction_is_told_from_one(framework: Framework) -> None:
    for answer in (b'{"error": "no"}', b"[]", b"{}", b'"", "'):
        with pytest.raises((KeyError, IndexError, TypeError, ValueError)):
            framework.decode(answer)


def test_names_are_unique_and_ours_is_first() -> None:
    assert next(iter(FRAMEWORKS)) == OURS.name
    assert len({framework.title for framework in FRAMEWORKS.values()}) == len(FRAMEWORKS)


def test_a_row_without_this_project_is_the_row_with_it() -> None:
    assert CONTRACT_TYPES == columns.CONTRACT_TYPES
    assert PAYMENT_METHODS == columns.PAYMENT_METHODS
    for customer in CUSTOMERS:
        assert tuple(row(json.loads(customer.model_dump_json()))) == customer_row(customer)


def sample(rate: float, *, cpu_us: float = 50, p50_ms: float = 1) -> Sample:
    return Sample(
        requests=round(rate),
        seconds=1.0,
        errors=0,
        cpu_us=cpu_us,
        p50_ms=p50_ms,
        p99_ms=2 * p50_ms,
        max_ms=3 * p50_ms,
    )


def trial(
    framework: Framework,
    model: str,
    *,
    rate: float,
    cpu_us: float,
    one_ms: float,
    paced_ms: float,
    number: int = 1,
) -> Trial:
    return Trial(
        framework=framework.name,
        model=model,
        round=number,
        ready_seconds=1.5,
        idle_mb=100,
        processes=2,
        largest_difference=0.0,
        one=sample(1000, p50_ms=one_ms),
        many=sample(rate, cpu_us=cpu_us),
        paced=Paced(rate=100, p50_ms=paced_ms / 2, p99_ms=paced_ms, errors=0, sustained=True),
        overload=Overload(
            offered=2 * rate,
            answered=1.5 * rate,
            statuses={"200": 900, "503": 100},
            accepted=rate,
            p50_ms=40,
            p99_ms=80,
        ),
        recovers=True,
        stop=Stop(in_flight=32, lost=0, seconds=1.5, exit_code=0),
    )


def comparison(*trials: Trial, absences: tuple[Absence, ...] = ()) -> Comparison:
    environments = {
        one.framework: Environment(Path("python"), "1.2.3", packages=10, size_mb=200)
        for one in trials
    }
    return Comparison(environments, trials, absences)


TIMED = next(framework for framework in OTHERS if framework.batching == "timer")
PLAIN = next(framework for framework in OTHERS if framework.batching == "none")


@pytest.mark.parametrize("model", [LOGISTIC, TREE])
def test_targets_are_met_by_who_is_first(model: str) -> None:
    ours = trial(OURS, model, rate=200, cpu_us=10, one_ms=0.1, paced_ms=2)
    timed = trial(TIMED, model, rate=100, cpu_us=20, one_ms=0.5, paced_ms=3)
    plain = trial(PLAIN, model, rate=50, cpu_us=30, one_ms=0.1, paced_ms=1)
    assert [outcome.met for outcome in outcomes(comparison(ours, timed, plain))] == [True] * 4


def test_targets_are_missed_by_who_is_not() -> None:
    ours = trial(OURS, LOGISTIC, rate=200, cpu_us=10, one_ms=0.1, paced_ms=4)
    timed = trial(TIMED, LOGISTIC, rate=201, cpu_us=9, one_ms=0.49, paced_ms=3)
    plain = trial(PLAIN, LOGISTIC, rate=50, cpu_us=30, one_ms=0.1, paced_ms=1)
    found = outcomes(comparison(ours, timed, plain))
    assert [outcome.met for outcome in found] == [False] * 4
    assert f"{TIMED.title}, 201 req/s" in found[0].detail
    assert "4.9x" in found[2].detail


def test_alone_there_are_no_targets() -> None:
    ours = trial(OURS, LOGISTIC, rate=200, cpu_us=10, one_ms=0.1, paced_ms=4)
    plain = trial(PLAIN, LOGISTIC, rate=50, cpu_us=30, one_ms=0.1, paced_ms=1)
    assert outcomes(comparison(ours)) == []
    assert outcomes(comparison(plain)) == []


def test_the_rounds_count_by_their_median() -> None:
    rounds = [
        trial(OURS, LOGISTIC, rate=rate, cpu_us=10, one_ms=0.1, paced_ms=4, number=number)
        for number, rate in enumerate((300, 100, 120), 1)
    ]
    (seen,) = comparison(*rounds).of(LOGISTIC)
    assert seen.known(lambda one: one.many.rate) == 120


def test_everything_is_written_down(tmp_path: Path) -> None:
    ours = trial(OURS, LOGISTIC, rate=20_000, cpu_us=50, one_ms=0.1, paced_ms=2)
    slow = trial(PLAIN, LOGISTIC, rate=300, cpu_us=3000, one_ms=2, paced_ms=9)
    slow = replace(
        slow,
        recovers=False,
        stop=Stop(in_flight=30, lost=12, seconds=None, exit_code=None),
        paced=replace(slow.paced, sustained=False),
    )
    absent = Absence(TIMED.name, None, "It cannot be installed:\nno wheel | for this machine", None)
    both = comparison(slow, ours, absences=(absent,))
    facts = {"date": "2026-01-01T00:00", "cpu": "c", "cores": 2, "python": "3"}
    facts |= {"wrk": "wrk 4", "h2load": "h2load 1"}
    options = {"rounds": 1, "seconds": 3, "rate": 100, "customers": 100}
    write_markdown(tmp_path / "c.md", both, facts=facts, options=options, chart="c.png")
    text = (tmp_path / "c.md").read_text()
    # Fastest first; every line of a table has as many cells as its head.
    assert text.index(f"| {OURS.title} | 50 | 20,000") < text.index(f"| {PLAIN.title} | 3000 | 300")
    assert "9.00 (not sustained)" in text
    assert "200: 90.0%, 503: 10.0%" in text
    assert "DOES NOT ANSWER" in text
    assert "| 0 of 32 | 1.5 | 0 |" in text
    assert "| 12 of 30 | more than 40 |  |" in text
    assert "It cannot be installed: no wheel" in text
    width = 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert not (width and cells) or cells == width, line
        width = cells
    write_json(tmp_path / "c.json", both, facts=facts, options=options)
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["absences"][0]["reason"] == absent.reason
    assert document["trials"][0]["many"]["rate"] == 300
