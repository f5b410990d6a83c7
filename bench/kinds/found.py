"""What was measured of each kind of model: read, held against the promises, written down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.harness.targets import Outcome
from bench.interval import Interval, around_the_median
from bench.kinds import FOREST, LOGISTIC, XGBOOST, tolerance
from bench.kinds.duel import Duel
from bench.kinds.reasons import Reasoned, about, read_reasoned, shap_outcomes
from bench.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["SIZES", "Found", "introduction", "outcomes", "read", "reasoned", "table"]

SIZES: Final = (1, 256, 10_000)
FOREST_OVER_SKLEARN: Final = 40


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured of one kind.

    Attributes:
        kind: Which.
        largest_difference: Between the probabilities of both.
        duels: By the number of rows, as JSON has it.
        reasons: What they cost; None: it gives none.
    """

    kind: str
    largest_difference: float
    duels: dict[str, Duel]
    reasons: Reasoned | None = None


def read(text: str) -> Found:
    """Return what another process has written."""
    told = json.loads(text)
    duels = {
        size: Duel(**{**figures, "ratio": Interval(**figures["ratio"])})
        for size, figures in told.pop("duels").items()
    }
    reasons = read_reasoned(told.pop("reasons"))
    return Found(**told, duels=duels, reasons=reasons)


def table(found: Sequence[Found]) -> Table:
    """Return the microseconds of both, and how many times faster ours is."""
    columns = ("model", *(name for size in SIZES for name in _columns(size)), "differs by")
    return Table("Scorer and predict_proba", columns, [tuple(_cells(one)) for one in found])


def _columns(size: int) -> tuple[str, str, str]:
    return f"{_rows(size)}: ours us", "its own us", "times faster"


def _rows(size: int) -> str:
    return "1 row" if size == 1 else f"{size:,} rows"


def _cells(one: Found) -> Iterator[str]:
    yield one.kind
    for size in SIZES:
        measured = one.duels[str(size)]
        yield f"{measured.ours_us:,.1f}"
        yield f"{measured.theirs_us:,.1f}"
        yield measured.ratio.text(".1f")
    yield f"{one.largest_difference:.0e}"


def outcomes(found: Sequence[Found]) -> list[Outcome]:
    """Hold the figures against what was promised: each is faster, a forest's single row by far."""
    made = []
    for one in found:
        for size in SIZES:
            times = one.duels[str(size)].ratio.median
            least = FOREST_OVER_SKLEARN if (one.kind, size) == (FOREST, 1) else 1
            title = f"{one.kind}: {_rows(size)}, times faster than its own predict_proba"
            made.append(Outcome(title, f"at least {least}x", f"{times:.1f}x", times >= least))
    return made + shap_outcomes(reasoned(found))


def reasoned(found: Sequence[Found]) -> list[tuple[str, Reasoned]]:
    """Return the kinds that give reasons, with what these cost."""
    return [(one.kind, one.reasons) for one in found if one.reasons is not None]


def introduction(pairs: int) -> str:
    """Return a paragraph that says how it was measured."""
    known = around_the_median([1.0] * pairs).confidence
    return (
        "Microseconds of a call, without a server, in one process on one core: this project's "
        "scorer, loaded from the model store, and the fitted model's own `predict_proba`, its "
        f"scaler included. Medians of {pairs} timings of both in turn; in brackets, between what "
        f"the median of their ratio lies with {known:.0%} confidence. Before, the probabilities "
        f"of {SIZES[-1]:,} customers were found equal to {tolerance(LOGISTIC):g} ({XGBOOST}, which "
        f"sums in float32: {tolerance(XGBOOST):g}).\n\n{about()}"
    )
