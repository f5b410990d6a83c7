"""How well a median is known: an interval that assumes nothing about the figures."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Interval", "around_the_median"]

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and where it lies.

    Attributes:
        median: Of what was measured.
        low: The median of many more would lie between this,
        high: and this,
        confidence: with this probability.
    """

    median: float
    low: float
    high: float
    confidence: float

    def text(self, form: str = ".2f") -> str:
        """Return it in a few characters."""
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"


def around_the_median(figures: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the median of independent figures between two of them.

    Each figure is below the true median as often as a coin shows heads. So the chance is known that
    all but ``k`` of them are on the same side of it, whatever their distribution is. The interval
    is the narrowest with the confidence asked for; of few figures, all of them with less.
    """
    ordered, count = sorted(figures), len(figures)
    left_out, known = 0, 1 - 2 / 2**count
    for number in range(1, count // 2 + 1):
        tails = 2 * sum(comb(count, below) for below in range(number + 1)) / 2**count
        if 1 - tails < confidence:
            break
        left_out, known = number, 1 - tails
    return Interval(
        median(ordered), ordered[left_out], ordered[count - 1 - left_out], max(0.0, known)
    )
