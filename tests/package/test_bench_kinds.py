"""What is measured of each kind of model, without a server."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

from bench.interval import Interval
from bench.kinds import FOREST, KINDS, MODELS, TREE, XGBOOST, tolerance
from bench.kinds.duel import Duel, duel
from bench.kinds.found import SIZES, Found, introduction, outcomes, read, reasoned, table
from bench.kinds.reasons import Reasoned, reasons_table
from bench.servers.ours import OURS
from bench.servers.server import PREDICT
from bench.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Callable


def found(kind: str, times: float) -> Found:
    measured = Duel(10.0, 10.0 * times, Interval(times, times - 0.5, times + 0.5, 0.97))
    return Found(kind, 1e-16, dict.fromkeys(map(str, SIZES), measured))


def test_ours_serves_every_kind_and_the_usual_ones_are_those_of_the_training() -> None:
    assert OURS.models == KINDS
    assert KINDS[: len(MODELS)] == MODELS
    assert PREDICT in OURS.routes


def test_only_a_model_that_sums_in_float32_may_differ_by_more() -> None:
    assert {kind: tolerance(kind) for kind in KINDS} == {
        kind: 5e-7 if kind == XGBOOST else 1e-9 for kind in KINDS
    }


class Clock:
    """Stands still, but for what says that it takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("bench.kinds.duel.perf_counter", made)
    return made


def test_both_are_called_with_every_input_and_who_is_first_changes(clock: Clock) -> None:
    called: list[tuple[str, int]] = []

    def takes(name: str, seconds: float) -> Callable[[int], None]:
        def call(number: int) -> None:
            called.append((name, number))
            clock.now += seconds

        return call

    measured = duel(takes("ours", 0.25), takes("theirs", 0.5), [1, 2], pairs=4, seconds=2)
    assert set(called) == {("ours", 1), ("ours", 2), ("theirs", 1), ("theirs", 2)}
    assert (measured.ours_us, measured.theirs_us) == (250_000, 500_000)
    # How many times faster ours is.
    assert (measured.ratio.low, measured.ratio.high) == (2, 2)
    names = [name for name, _ in called]
    firsts = [name for before, name in zip([None, *names], names, strict=False) if name != before]
    # In the warm-up ours is first, then they change: theirs, ours; ours, theirs; and so on.
    assert firsts == ["ours", "theirs", "ours", "theirs", "ours", "theirs"]


def test_one_call_is_enough_if_it_takes_long(clock: Clock) -> None:
    calls: list[int] = []

    def slow(number: int) -> None:
        calls.append(number)
        clock.now += 1

    duel(slow, slow, [0], pairs=1, seconds=0.001)
    # For each, once to see how long it takes, and once for good.
    assert len(calls) == 4


def reasoned_as(kind: str, times: float | None) -> Found:
    shap = None if times is None else found(kind, times).duels["1"]
    return replace(found(kind, 41), reasons=Reasoned("patterns", 0.5, 948.0, 10.0, 4.0, shap))


@pytest.mark.parametrize(
    "made", [found(FOREST, 41), reasoned_as(TREE, 100.0), reasoned_as(FOREST, None)]
)
def test_what_another_process_has_measured_is_read_as_it_was(made: Found) -> None:
    assert read(json.dumps(asdict(made))) == made


@pytest.mark.parametrize(("times", "kept"), [(41.0, True), (39.0, False)])
def test_reasons_of_the_boosting_are_promised_to_be_forty_times_faster_than_shaps(
    times: float,
    kept: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    *_, last = outcomes([reasoned_as(TREE, times)])
    assert (last.wanted, last.met) == ("at least 40x", kept)
    assert not any("shap" in one.title for one in outcomes([reasoned_as(FOREST, None)]))


def test_what_reasons_cost_is_written_down_beside_shaps() -> None:
    text = markdown(
        [reasons_table(reasoned([reasoned_as(TREE, 100.0), reasoned_as(FOREST, None)]))]
    )
    assert "| patterns | 0.50 | 948 | 10.0 | 4.0 | 1,000.0 | 100.0 (99.5 to 100.5) |" in text
    assert "| patterns | 0.50 | 948 | 10.0 | 4.0 |  |  |" in text


def test_a_kind_without_reasons_is_in_no_table_of_them() -> None:
    assert reasoned([found(FOREST, 41)]) == []


@pytest.mark.parametrize(("times", "kept"), [(41.0, True), (39.0, False)])
def test_a_forest_is_promised_to_be_forty_times_faster_for_one_row(
    times: float,
    kept: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    one, *more = outcomes([found(FOREST, times)])
    assert (one.wanted, one.met) == ("at least 40x", kept)
    assert [outcome.wanted for outcome in more] == ["at least 1x", "at least 1x"]
    assert all(outcome.met for outcome in more)


def test_what_was_measured_is_written_down() -> None:
    text = markdown([table([found(kind, 2.0) for kind in KINDS])])
    assert text.count("| 10.0 | 20.0 | 2.0 (1.5 to 2.5) ") == len(SIZES) * len(KINDS)
    assert len({line.count("|") for line in text.splitlines() if "|" in line}) == 1
    assert "21 timings" in introduction(21)
