from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from churn_serving.errors import BreakerOpenError
from churn_serving.inference.resilience import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    CircuitBreaker,
    DurationEstimate,
)
from tests.doubles import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

OPEN_SECONDS = 5.0
WINDOW_SECONDS = 10


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return _breaker(clock)


def _breaker(clock: Clock, *, failure_rate: float = 0.5, min_calls: int = 20) -> CircuitBreaker:
    return CircuitBreaker(
        failure_rate=failure_rate,
        window_seconds=WINDOW_SECONDS,
        min_calls=min_calls,
        open_seconds=OPEN_SECONDS,
        clock=clock,
    )


def _call(breaker: CircuitBreaker, clock: Clock, outcomes: str) -> None:
    """Make a call for each letter: ``.`` succeeds, ``x`` fails."""
    for outcome in outcomes:
        breaker.admit()
        (breaker.failed if outcome == "x" else breaker.succeeded)(clock())


def _opened(breaker: CircuitBreaker, clock: Clock) -> CircuitBreaker:
    _call(breaker, clock, "x" * 20)
    assert breaker.state is OPEN
    return breaker


def test_it_begins_closed_and_lets_everything_through(breaker: CircuitBreaker) -> None:
    assert breaker.state is CLOSED
    assert breaker.times_opened == 0
    for _ in range(100):
        breaker.admit()


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("x" * 19, CLOSED),  # too few calls to say anything
        ("x" * 20, OPEN),
        ("." * 10 + "x" * 10, OPEN),  # exactly the rate
        ("." * 11 + "x" * 10, CLOSED),
        ("." * 11 + "x" * 11, OPEN),
        ("x.." * 40, CLOSED),  # two in three succeed, though the breaker could see 40 failures
        (".x" * 9 + "..x" * 40, CLOSED),
        (".xxxx" * 4, OPEN),  # never five in a row, yet four in five
        ("." * 1000, CLOSED),
    ],
)
def test_it_opens_at_the_rate_once_there_were_enough_calls(
    outcomes: str, state: str, breaker: CircuitBreaker, clock: Clock
) -> None:
    _call(breaker, clock, outcomes)
    assert breaker.state is state
    assert breaker.times_opened == (state is OPEN)


def test_a_rate_of_one_needs_every_call_to_fail(clock: Clock) -> None:
    breaker = _breaker(clock, failure_rate=1.0)
    _call(breaker, clock, "." + "x" * 200)
    assert breaker.state is CLOSED
    clock.now += WINDOW_SECONDS
    _call(breaker, clock, "x" * 20)
    assert breaker.state is OPEN


def test_calls_that_have_left_the_window_no_longer_count(clock: Clock) -> None:
    breaker = _breaker(clock)
    _call(breaker, clock, "x" * 19)
    clock.now += WINDOW_SECONDS
    _call(breaker, clock, "x" * 19)
    assert breaker.state is CLOSED
    _call(breaker, clock, "x")
    assert breaker.state is OPEN


def test_calls_that_are_still_in_the_window_count(breaker: CircuitBreaker, clock: Clock) -> None:
    _call(breaker, clock, "x" * 19)
    clock.now += WINDOW_SECONDS - 1
    _call(breaker, clock, "x")
    assert breaker.state is OPEN


def test_old_successes_do_not_hide_for_long_that_everything_fails_now(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    def second(note: Callable[[float], None]) -> None:
        for _ in range(100):
            note(clock())
        clock.now += 1

    for _ in range(3 * WINDOW_SECONDS):
        second(breaker.succeeded)
    for _ in range(WINDOW_SECONDS // 2 - 1):
        second(breaker.failed)
    assert breaker.state is CLOSED
    second(breaker.failed)
    assert breaker.state is OPEN


def test_the_window_slides_second_by_second(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(WINDOW_SECONDS * 5):  # one failure in each second never is twenty at once
        _call(breaker, clock, "x")
        clock.now += 1
    assert breaker.state is CLOSED


def test_a_long_silence_forgets_everything(breaker: CircuitBreaker, clock: Clock) -> None:
    _call(breaker, clock, "x" * 19)
    clock.now += 86_400 * 365
    _call(breaker, clock, "x" * 19)
    assert breaker.state is CLOSED


def test_open_it_refuses_and_says_when_to_come_again(breaker: CircuitBreaker, clock: Clock) -> None:
    _opened(breaker, clock)
    for waited, left in ((0.0, 5.0), (2.0, 3.0), (2.5, 0.5)):
        clock.now += waited
        with pytest.raises(BreakerOpenError) as refused:
            breaker.admit()
        assert refused.value.retry_after == pytest.approx(left)
        assert refused.value.reason == "breaker_open"
        assert breaker.state is OPEN


def test_half_open_it_lets_one_probe_through_at_a_time(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    _opened(breaker, clock)
    clock.now += OPEN_SECONDS
    for _ in range(CircuitBreaker.PROBES):
        assert breaker.state is not CLOSED
        breaker.admit()
        assert breaker.state is HALF_OPEN
        clock.now += 0.5
        with pytest.raises(BreakerOpenError) as refused:
            breaker.admit()
        assert refused.value.retry_after == pytest.approx(OPEN_SECONDS - 0.5)
        breaker.succeeded(clock())
    assert breaker.state is CLOSED


def test_three_probes_that_succeed_close_it_and_fewer_do_not(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    _opened(breaker, clock)
    clock.now += OPEN_SECONDS
    _call(breaker, clock, "." * (CircuitBreaker.PROBES - 1))
    assert breaker.state is HALF_OPEN
    _call(breaker, clock, ".")
    assert breaker.state is CLOSED


@pytest.mark.parametrize("successes", range(CircuitBreaker.PROBES))
def test_one_probe_that_fails_opens_it_again_for_as_long(
    successes: int, breaker: CircuitBreaker, clock: Clock
) -> None:
    _opened(breaker, clock)
    clock.now += OPEN_SECONDS
    _call(breaker, clock, "." * successes + "x")
    assert breaker.state is OPEN
    assert breaker.times_opened == 2
    with pytest.raises(BreakerOpenError) as refused:
        breaker.admit()
    assert refused.value.retry_after == pytest.approx(OPEN_SECONDS)
    # The successes before do not count any more.
    clock.now += OPEN_SECONDS
    _call(breaker, clock, "." * (CircuitBreaker.PROBES - 1))
    assert breaker.state is HALF_OPEN


def test_a_probe_that_never_ends_is_given_up(breaker: CircuitBreaker, clock: Clock) -> None:
    _opened(breaker, clock)
    clock.now += OPEN_SECONDS
    breaker.admit()  # its caller goes away, and nobody tells
    clock.now += OPEN_SECONDS - 0.1
    with pytest.raises(BreakerOpenError):
        breaker.admit()
    clock.now += 0.2
    _call(breaker, clock, "." * CircuitBreaker.PROBES)
    assert breaker.state is CLOSED


def test_closed_again_it_has_forgotten_the_failures(breaker: CircuitBreaker, clock: Clock) -> None:
    _opened(breaker, clock)
    clock.now += OPEN_SECONDS
    _call(breaker, clock, "." * CircuitBreaker.PROBES)
    _call(breaker, clock, "x" * 19)
    assert breaker.state is CLOSED
    _call(breaker, clock, "x")
    assert breaker.state is OPEN
    assert breaker.times_opened == 2


def test_calls_that_end_after_it_has_opened_change_nothing(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    _opened(breaker, clock)
    for _ in range(50):
        breaker.succeeded(clock())
        breaker.failed(clock())
    assert breaker.state is OPEN
    assert breaker.times_opened == 1
    clock.now += OPEN_SECONDS
    breaker.admit()


def test_an_estimate_begins_with_what_it_is_told() -> None:
    assert DurationEstimate().seconds == 0
    assert DurationEstimate(0.2).seconds == pytest.approx(0.2)


def test_an_estimate_comes_to_the_duration_of_calls_that_are_all_alike() -> None:
    estimate = DurationEstimate(1.0)
    for _ in range(60):
        estimate.observe(0.01)
    assert estimate.seconds == pytest.approx(0.01, rel=0.01)


def test_an_estimate_is_rather_too_long_than_too_short() -> None:
    estimate = DurationEstimate(0.01)
    for index in range(200):
        estimate.observe(0.03 if index % 2 else 0.01)
    assert 0.03 <= estimate.seconds < 0.06


def test_one_slow_call_raises_an_estimate_at_once_and_is_soon_forgotten() -> None:
    estimate = DurationEstimate(0.01)
    estimate.observe(1.0)
    assert estimate.seconds > 0.5
    for _ in range(30):
        estimate.observe(0.01)
    assert estimate.seconds < 0.02


def test_what_remains_of_a_call_shrinks_until_it_is_overdue_and_then_grows() -> None:
    estimate = DurationEstimate(2.0)
    remaining = [estimate.remaining(elapsed) for elapsed in (0.0, 0.5, 1.5, 2.0)]
    assert remaining == pytest.approx([2.0, 1.5, 0.5, 0.0])
    # It should be back by now. It may be in a moment, or never: as long again, each time.
    assert [estimate.remaining(elapsed) for elapsed in (2.1, 10.0, 600.0)] == [2.1, 10.0, 600.0]
