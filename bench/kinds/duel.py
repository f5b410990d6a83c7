"""Two functions that do the same, timed in turn in one process."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final

from bench.interval import Interval, around_the_median

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    Input = TypeVar("Input")

__all__ = ["Duel", "duel", "timed"]

MAX_CALLS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Duel:
    """What was measured.

    Attributes:
        ours_us: Microseconds for each of our calls: the median.
        theirs_us: Likewise.
        ratio: Theirs over ours, of two timings next to each other.
    """

    ours_us: float
    theirs_us: float
    ratio: Interval


def duel(
    ours: Callable[[Input], object],
    theirs: Callable[[Input], object],
    inputs: Sequence[Input],
    *,
    pairs: int,
    seconds: float,
) -> Duel:
    """Time both, one after the other; who is first changes from pair to pair.

    Args:
        ours: Called with one of the inputs after the other.
        theirs: Likewise.
        inputs: At least one.
        pairs: How often.
        seconds: About how long each timing lasts, at least one call.
    """
    sides = (ours, theirs)
    calls = [_calls(side, inputs, seconds) for side in sides]
    timings: tuple[list[float], list[float]] = ([], [])
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # as timeit does: a collection would be one call's bad luck
    try:
        for number in range(pairs):
            for side in (0, 1) if number % 2 else (1, 0):
                timings[side].append(_time(sides[side], inputs, calls[side]))
    finally:
        if collecting:
            gc.enable()
    ratio = around_the_median([their / our for our, their in zip(*timings, strict=True)])
    ours_us, theirs_us = (around_the_median(side).median * 1e6 for side in timings)
    return Duel(ours_us, theirs_us, ratio)


def timed(
    function: Callable[[Input], object], inputs: Sequence[Input], *, pairs: int, seconds: float
) -> float:
    """Return the microseconds of a call: the median, where there is nothing to compare with."""
    return duel(function, function, inputs, pairs=pairs, seconds=seconds).ours_us


def _calls(function: Callable[[Input], object], inputs: Sequence[Input], seconds: float) -> int:
    """Return how many calls last about so long; this warms it up, too."""
    calls = 1
    while True:
        each = _time(function, inputs, calls)
        if each * calls >= seconds / 4 or calls >= MAX_CALLS:
            return max(1, min(MAX_CALLS, round(seconds / max(each, 1e-9))))
        calls *= 2


def _time(function: Callable[[Input], object], inputs: Sequence[Input], calls: int) -> float:
    """Return the seconds of a call."""
    asked = [inputs[number % len(inputs)] for number in range(calls)]
    start = perf_counter()
    for one in asked:
        function(one)
    return (perf_counter() - start) / calls
