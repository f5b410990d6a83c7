"""What the reasons of a model cost: to make, to keep, to give; beside shap's own explainers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from time import process_time
from typing import TYPE_CHECKING, Any, Final

from bench.harness.targets import Outcome
from bench.interval import Interval
from bench.kinds import BOOSTERS, GRADIENT_BOOSTING, LOGISTIC, TREE
from bench.kinds.duel import Duel, duel, timed
from bench.tables import Table
from churn_serving.model.npz import read_arrays
from churn_serving.model.portable import ARRAYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from bench.kinds.estimators import Fitted
    from churn_serving.model.artifact import Artifact
    from churn_serving.model.reasons.section import Reasons

__all__ = [
    "Reasoned",
    "about",
    "measure_reasons",
    "read_reasoned",
    "reasons_table",
    "shap_outcomes",
]

BACKGROUND: Final = 1000
SHAP_BACKGROUND: Final = 100
"""So many customers shap takes of a larger background, unless it is told otherwise."""
TIMES_FASTER: Final = 40

_MANY: Final = 1000
_FEW: Final = 5
"""Rows of a kind that needs milliseconds for each."""
_SINGLE: Final = 500
_IN_LOG_ODDS: Final = (LOGISTIC, TREE, GRADIENT_BOOSTING, *BOOSTERS)
"""Kinds that shap explains in log-odds."""


@dataclass(frozen=True, slots=True)
class Reasoned:
    """What was measured of the reasons of one kind of model.

    Attributes:
        way: What computes them, as the manifest calls it.
        making_seconds: Of processor time.
        kilobytes: Of their arrays in the file.
        row_us: For a customer, alone.
        many_us: For a customer, of a thousand at once.
        shap: One customer at a time, ours and shap's; None where shap explains something else.
    """

    way: str
    making_seconds: float
    kilobytes: float
    row_us: float
    many_us: float
    shap: Duel | None


def read_reasoned(told: dict[str, Any] | None) -> Reasoned | None:
    """Return what another process has written."""
    if told is None:
        return None
    shap = told.pop("shap")
    measured = None if shap is None else Duel(**{**shap, "ratio": Interval(**shap["ratio"])})
    return Reasoned(**told, shap=measured)


def measure_reasons(
    kind: str,
    model: Artifact,
    fitted: Fitted,
    X: NDArray[Any],
    *,
    pairs: int,
    seconds: float,
) -> Reasoned | None:
    """Measure the reasons of a model; None if it gives none.

    Args:
        kind: Which.
        model: As the service loads it.
        fitted: The same one, fitted.
        X: Customers.
        pairs: How often each is timed.
        seconds: About how long each timing lasts.

    Raises:
        ModuleNotFoundError: shap is not installed.
    """
    # Imported late: another commit may have none of it, and is never asked.
    from churn_serving.learning.explaining import explain  # noqa: PLC0415

    reasons = model.reasons
    if reasons is None:
        return None
    arrays = read_arrays((model.folder / ARRAYS).read_bytes())
    begun = process_time()
    made = explain(model.manifest.model, arrays, model.scorer.score, X[:BACKGROUND])
    making = process_time() - begun
    single = [tuple(row) for row in X[: _FEW if reasons.slow else _SINGLE].tolist()]
    many = X[: _FEW if reasons.slow else _MANY]
    options: dict[str, Any] = {"pairs": pairs, "seconds": seconds}
    return Reasoned(
        way=reasons.section.kind,
        making_seconds=making,
        kilobytes=sum(array.nbytes for array in made.arrays.values()) / 1024,
        row_us=timed(reasons.row, single, **options),
        many_us=timed(reasons.matrix, [many], **options) / len(many),
        shap=_beside_shap(kind, reasons, fitted, X, options),
    )


def _beside_shap(
    kind: str,
    reasons: Reasons,
    fitted: Fitted,
    X: NDArray[Any],
    options: dict[str, Any],
) -> Duel | None:
    if kind not in _IN_LOG_ODDS:
        return None
    import shap  # noqa: PLC0415 - it takes seconds, and some kinds need none of it

    seen = X if fitted.scaler is None else fitted.scaler.transform(X)
    background = seen[:SHAP_BACKGROUND]
    if kind == LOGISTIC:
        theirs = shap.LinearExplainer(fitted.estimator, background).shap_values
    else:
        # Its trees are interventional if they get a background.
        theirs = partial(
            shap.TreeExplainer(fitted.estimator, background).shap_values, check_additivity=False
        )
    rows = X[: _FEW if reasons.slow else _SINGLE]
    return duel(
        lambda row: reasons.row(row[0]),
        lambda row: theirs(row[1]),
        [(tuple(row.tolist()), same.reshape(1, -1)) for row, same in zip(rows, seen, strict=False)],
        **options,
    )


def reasons_table(found: Sequence[tuple[str, Reasoned]]) -> Table:
    """Return what reasons cost, and how many times faster than shap they are."""
    columns = (
        *("model", "by", "made in s", "KB", "1 row: us", f"{_MANY:,} rows: us a row"),
        *("1 row: shap us", "times faster"),
    )
    return Table("Reasons and shap", columns, [tuple(_cells(*one)) for one in found])


def _cells(kind: str, one: Reasoned) -> Iterator[str]:
    yield from (kind, one.way, f"{one.making_seconds:.2f}", f"{one.kilobytes:,.0f}")
    yield from (f"{one.row_us:,.1f}", f"{one.many_us:,.1f}")
    yield "" if one.shap is None else f"{one.shap.theirs_us:,.1f}"
    yield "" if one.shap is None else one.shap.ratio.text(".1f")


def shap_outcomes(found: Sequence[tuple[str, Reasoned]]) -> list[Outcome]:
    """Hold the boosting against what was promised."""
    return [
        Outcome(
            f"{kind}: reasons of a customer, times faster than shap's explainer",
            f"at least {TIMES_FASTER}x",
            f"{one.shap.ratio.median:.1f}x",
            one.shap.ratio.median >= TIMES_FASTER,
        )
        for kind, one in found
        if kind == TREE and one.shap is not None
    ]


def about() -> str:
    """Return a paragraph that says how reasons were measured."""
    return (
        f"Reasons compare a customer with {BACKGROUND:,} others (`coalitions`: with the few that "
        f"stand for them), shap's interventional explainers with the {SHAP_BACKGROUND} that they "
        "take by default, one customer at a time. shap has no like of them for a calibrated model, "
        "and explains the probabilities of a forest."
    )
