"""The reasons of a registered model: what the manifest and the arrays hold of them, verified.

``sections["reasons"]`` of the manifest is a ``Section``. The arrays:

- ``linear``: ``reasons/mean`` (columns,), of the background.
- ``patterns``: ``reasons/table`` (patterns, fields): how much each field moves the part of a tree,
  or of a leaf, for each of its patterns, in log-odds; in the order of ``units.patterns_of``.
- ``coalitions``: ``reasons/background`` (customers, columns).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.model.portable import Linear, Members, Trees, float_array
from churn_serving.model.reasons.coalitions import TINY, ClippedScore, CoalitionImpacts
from churn_serving.model.reasons.linear import LinearImpacts
from churn_serving.model.reasons.patterns import PatternImpacts
from churn_serving.model.reasons.sentences import Sentences, choices_of
from churn_serving.model.reasons.units import patterns_of
from churn_serving.model.scoring import TreeScorer, logistic, read_trees

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row
    from churn_serving.model.portable import Pickled
    from churn_serving.model.reasons.impacts import Impacts
    from churn_serving.model.reasons.sentences import Reason
    from churn_serving.model.scoring import Scorer


__all__ = [
    "BACKGROUND",
    "BACKGROUND_ROWS",
    "MAX_COALITION_ROWS",
    "MEAN",
    "NAME",
    "TABLE",
    "TOLERANCE",
    "Background",
    "Reasons",
    "Scale",
    "Section",
    "is_additive",
    "log_odds_of",
    "read_reasons",
]

Arrays: TypeAlias = "Mapping[str, NDArray[Any]]"

NAME: Final = "reasons"
"""Of the section, and how the names of its arrays begin."""

BACKGROUND_ROWS: Final = 1000
MAX_COALITION_ROWS: Final = 128

TOLERANCE: Final = 1e-9
MEAN: Final = f"{NAME}/mean"
TABLE: Final = f"{NAME}/table"
BACKGROUND: Final = f"{NAME}/background"

Scale: TypeAlias = Literal["log-odds", "log-odds of the probability clipped to 1e-6 and 1 - 1e-6"]
LOG_ODDS: Final = "log-odds"
CLIPPED: Final = "log-odds of the probability clipped to 1e-6 and 1 - 1e-6"

_FEW: Final = 1
"""So many golden rows of a slow kind are looked at: they add up by the definition."""

_LARGEST_MEAN: Final = 1e12
_LARGEST_IMPACT: Final = 1e6


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Background(_Part):
    """The customers that a customer is compared with.

    Attributes:
        rows: How many.
        sha256: Of their rows: float64, little-endian, one row after the other.
        used: How many of them the impacts are computed with.
        means: Of the fields that are numbers.
        shares: Of each value of the others: false and true, or in the order of the schema.
    """

    rows: Annotated[int, Field(ge=1, le=BACKGROUND_ROWS)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    used: Annotated[int, Field(ge=1, le=BACKGROUND_ROWS)]
    means: dict[str, Annotated[float, Field(ge=-_LARGEST_MEAN, le=_LARGEST_MEAN)]]
    shares: dict[str, list[Annotated[float, Field(ge=0, le=1)]]]

    @model_validator(mode="after")
    def _has_every_field(self) -> Background:
        if not {*self.means, *self.shares} <= {*FEATURE_NAMES}:
            raise ValueError("it has fields that a customer has not")
        for name in FEATURE_NAMES:
            choices = choices_of(name)
            if (name in self.means) is not (choices is None):
                raise ValueError(f"{name} is a number and has no mean, or it has one and is none")
            if len(self.shares.get(name, ())) != len(choices or ()):
                raise ValueError(f"it has not a share of each value of {name}")
        return self


class Section(_Part):
    """What the manifest says of a model's reasons.

    Attributes:
        kind: What computes them.
        scale: What the impacts and the baseline are in. Kinds whose probabilities are no logistic
            function of a sum have their probability clipped first: they return exactly 0 and 1.
        baseline: The mean of the background, in this scale.
        background: Whom a customer is compared with.
    """

    kind: Literal["linear", "patterns", "coalitions"]
    scale: Scale
    baseline: float
    background: Background


class Reasons:
    """The reasons of one model. Not safe to call from two threads.

    Attributes:
        section: What the manifest says of them.
        baseline: The mean of the background, in log-odds.
        exact: The impacts are those of the whole background and of the model's own log-odds; else
            of a few of its customers, and maybe of the log-odds of a clipped probability.
        slow: A row takes milliseconds: too long for an event loop.
        row: Returns the impact of each of ``FEATURE_NAMES``, in log-odds, for one row.
        matrix: Returns those of rows ``(n, columns)``, shape ``(n, fields)``.
        describe: Puts them into words, see ``Sentences.describe``.
    """

    def __init__(self, section: Section, impacts: Impacts) -> None:
        self.section = section
        self.baseline = impacts.baseline
        self.exact = impacts.exact
        self.slow = impacts.slow
        # No further call on the way of a request.
        self.row: Callable[[Row], Sequence[float]] = impacts.row
        self.matrix: Callable[[FloatArray], FloatArray] = impacts.matrix
        self.describe: Callable[[Mapping[str, Any], Sequence[float], int], list[Reason]] = (
            Sentences(section.background.means, section.background.shares).describe
        )


def read_reasons(
    sections: Mapping[str, JsonValue],
    arrays: Arrays,
    model: Members | Pickled,
    scorer: Scorer,
) -> Reasons | None:
    """Return the reasons of a model, which add up to its answers; None if it has none.

    Args:
        sections: Of the manifest.
        arrays: Of the model, whose own are checked.
        model: What the manifest says of it.
        scorer: Of the model; it has answered its golden rows rightly.

    Raises:
        ValueError: Section and arrays are not as they were registered; the text says what.
    """
    if NAME not in sections:
        return None
    try:
        section = Section.model_validate(sections[NAME])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in (NAME, *first["loc"])[:6])
        raise ValueError(
            f"the section '{where}' says nothing sensible: {first['msg'][:200]}"
        ) from None
    # What a stranger wrote may overflow; then it does not add up.
    with np.errstate(all="ignore"):
        impacts = _impacts(section, arrays, model, scorer)
        _verify(section, impacts, scorer, arrays["golden/X"])
    return Reasons(section, impacts)


def is_additive(model: Members | Pickled) -> bool:
    """Return whether the log-odds are a sum: there is one member, behind a logistic link."""
    return isinstance(model, Members) and [each.link for each in model.members] == ["logistic"]


def log_odds_of(
    model: Members | Pickled, scorer: Scorer
) -> tuple[Scale, Callable[[FloatArray], FloatArray]]:
    """Return what coalitions of a model are worth, and in which scale."""
    if is_additive(model) and isinstance(scorer, TreeScorer):
        return LOG_ODDS, scorer.sums
    return CLIPPED, ClippedScore(scorer)


def _impacts(section: Section, arrays: Arrays, model: Members | Pickled, scorer: Scorer) -> Impacts:
    scale: Scale = LOG_ODDS
    impacts: Impacts
    member = model.members[0] if isinstance(model, Members) and is_additive(model) else None
    if section.kind == "coalitions":
        background = float_array(arrays, BACKGROUND, 2)
        _require(
            background.shape == (section.background.used, len(COLUMN_NAMES))
            and len(background) <= MAX_COALITION_ROWS,
            f"the array {BACKGROUND} is of another shape",
        )
        scale, log_odds = log_odds_of(model, scorer)
        impacts = CoalitionImpacts(log_odds, background)
    elif section.kind == "linear" and isinstance(member, Linear):
        mean = float_array(arrays, MEAN)
        _require(len(mean) == len(COLUMN_NAMES), f"the array {MEAN} is not one for each column")
        impacts = LinearImpacts(arrays["0/weights"], member.bias, mean)
    elif section.kind == "patterns" and isinstance(member, Trees):
        impacts = _of_patterns(arrays, member)
    else:
        raise ValueError(f"its reasons are of the kind '{section.kind}', which the model is not")
    _require(section.scale == scale, "its reasons are in another scale than the model")
    return impacts


def _of_patterns(arrays: Arrays, member: Trees) -> PatternImpacts:
    patterns = patterns_of(*read_trees(arrays, 0))
    table = float_array(arrays, TABLE, 2)
    _require(
        table.shape == (patterns.start[-1], len(FEATURE_NAMES)),
        f"the array {TABLE} is not one row for each pattern of the trees",
    )
    _require(float(np.abs(table).max()) <= _LARGEST_IMPACT, f"the array {TABLE} holds huge numbers")
    # What a tree or a leaf adds to the sum is its mean and the impacts, whatever the pattern.
    means = member.scale * patterns.values - table.sum(axis=1)
    first = patterns.start[:-1]
    lowest, highest = np.minimum.reduceat(means, first), np.maximum.reduceat(means, first)
    _require(
        float((highest - lowest).sum()) <= TOLERANCE,
        f"the array {TABLE} does not add up to what the trees say",
    )
    return PatternImpacts(patterns, table, member.baseline + float(lowest.sum()))


def _verify(section: Section, impacts: Impacts, scorer: Scorer, golden: FloatArray) -> None:
    """Add up the reasons of the golden rows, which cover extreme customers."""
    X = golden[:_FEW] if impacts.slow else golden
    expected = scorer.score(X)
    if section.scale == CLIPPED:
        expected = np.clip(expected, TINY, 1 - TINY)
    found = [impacts.matrix(X)]
    if not impacts.slow:
        found.append(np.array([impacts.row(tuple(row)) for row in X.tolist()]))
    sums = np.stack([each.sum(axis=1) for each in found]) + section.baseline
    # numpy's max keeps a NaN, Python's may lose it.
    difference = float(np.abs(logistic(sums) - expected).max())
    _require(
        difference <= TOLERANCE and abs(section.baseline - impacts.baseline) <= TOLERANCE,
        f"its reasons do not add up to its answers, by up to {difference:.1e} "
        f"(allowed: {TOLERANCE:.0e})",
    )


def _require(holds: bool, problem: str) -> None:  # noqa: FBT001 - reads like a sentence
    if not holds:
        raise ValueError(problem)
