"""The plots of a model's card, drawn once, when the model is registered.

The same figures give the same bytes. Importing this module needs matplotlib.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, PercentFormatter

from churn_serving.learning.card.svg import COLOURS, inlined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

__all__ = ["effect", "lift", "precision_recall", "profit", "reliability"]

INK: Final = COLOURS["ink"]
MUTED: Final = COLOURS["muted"]
LINE: Final = COLOURS["line"]
ACCENT: Final = COLOURS["accent"]
SECOND: Final = COLOURS["second"]
SHEET: Final = COLOURS["sheet"]

_RC: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text: it can be read out, searched and copied
    "svg.hashsalt": "churn-serving",  # else ids are random
    "font.size": 10.0,
    "text.parse_math": False,  # a dollar is a dollar
    "text.color": MUTED,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.major.pad": 6.0,
    "ytick.major.pad": 5.0,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_NO_DATE: Final = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_LARGE: Final = (4.6, 3.5)
_SMALL: Final = (3.2, 2.0)
_BAR: Final[dict[str, Any]] = {"fmt": "o", "ms": 4.5, "elinewidth": 1.4, "capsize": 0, "zorder": 3}
_MANY: Final = 1000
_TALL: Final = 0.2
_LONG: Final = 6


def reliability(bins: Sequence[Mapping[str, Any]], *, label: str) -> str:
    """Draw the share that left by the probability that was said; below, where customers are."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(_LARGE[0], 4.1), layout="constrained")
        axes, below = figure.subplots(2, sharex=True, height_ratios=(5, 1))
        said = [each["predicted"] for each in bins]
        seen = [each["observed"] for each in bins]
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)))
        axes.text(0.93, 0.99, "right", ha="right", va="top", color=MUTED)
        axes.errorbar(said, [e["value"] for e in seen], yerr=_around(seen), color=ACCENT, **_BAR)
        _percents(axes, y="share that left")
        axes.set_ylim(0, 1)
        rows = [each["rows"] for each in bins]
        below.bar(said, rows, width=0.012, color=SECOND)
        below.set_ylim(0, max(rows) * 1.15)
        below.yaxis.set_major_locator(FixedLocator([0, max(rows)]))
        below.set_ylabel("customers")
        _percents(below, x="probability of leaving, as the model says it")
        below.set_xlim(0, 1)
        below.yaxis.set_major_formatter(FuncFormatter(_short))
        return _svg(figure, "reliability", label)


def precision_recall(
    points: Sequence[Sequence[float]],
    *,
    prevalence: float | None,
    at: tuple[Mapping[str, float], Mapping[str, float]] | None,
    label: str,
) -> str:
    """Draw precision by recall, the decision threshold's point on it, and what no skill gives."""
    with mpl.rc_context(_RC):
        figure, axes = _drawing(_LARGE)
        axes.plot(*zip(*points, strict=True), color=ACCENT, lw=1.8)
        if prevalence is not None:
            axes.axhline(prevalence, color=MUTED, lw=1, ls=(0, (4, 3)))
            axes.text(0.01, prevalence - 0.02, "no skill", va="top", color=MUTED)
        if at is not None:
            recall, precision = at
            axes.errorbar(
                [recall["value"]],
                [precision["value"]],
                xerr=_around([recall]),
                yerr=_around([precision]),
                color=SECOND,
                **_BAR,
            )
            axes.annotate(
                "at the threshold",
                (recall["value"], precision["value"]),
                (8, 12),
                textcoords="offset points",
                color=SECOND,
            )
        _percents(axes, x="of those who left, found (recall)", y="of those found, left (precision)")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        return _svg(figure, "precision-recall", label)


def lift(
    gains: Sequence[Sequence[float]], marked: Mapping[float, Mapping[str, float]], *, label: str
) -> str:
    """Draw how many times the average is left, by the share of customers that is contacted."""
    least = min(marked, default=0.0)
    points = sorted(
        [(share, found / share) for share, found in gains if share > max(least, 0)]
        + [(share, each["value"]) for share, each in marked.items()]
    )
    with mpl.rc_context(_RC):
        figure, axes = _drawing(_LARGE)
        axes.plot(*zip(*points, strict=True), color=ACCENT, lw=1.8)
        axes.axhline(1, color=MUTED, lw=1, ls=(0, (4, 3)))
        axes.text(0.01, 0.93, "no skill", va="top", color=MUTED)
        if marked:
            known = list(marked.values())
            axes.errorbar(
                list(marked),
                [each["value"] for each in known],
                yerr=_around(known),
                color=SECOND,
                **_BAR,
            )
        for share, each in marked.items():
            axes.annotate(
                f"{each['value']:.1f}",
                (share, each["value"]),
                (6, 6),
                textcoords="offset points",
                color=SECOND,
            )
        top = max([y for _, y in points] + [each["high"] for each in marked.values()])
        axes.set_xlim(0, 1)
        axes.set_ylim(0, top * 1.08)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        axes.set_xlabel("customers contacted, those most at risk first")
        axes.set_ylabel("leavers among them, to the average")
        return _svg(figure, "lift", label)


def profit(
    curve: Mapping[str, Sequence[float]],
    *,
    at: tuple[float, Mapping[str, float]] | None,
    best: tuple[float, float],
    label: str,
) -> str:
    """Draw the profit per customer by the threshold, with its interval as a band.

    Args:
        curve: ``threshold``, ``profit``, ``low`` and ``high``.
        at: The policy's threshold, and the profit there.
        best: The threshold with the highest profit, and that.
        label: For who cannot see it.
    """
    cuts = curve["threshold"]
    with mpl.rc_context(_RC):
        figure, axes = _drawing(_LARGE)
        axes.axhline(0, color=MUTED, lw=1, ls=(0, (4, 3)))
        axes.fill_between(cuts, curve["low"], curve["high"], color=ACCENT, alpha=0.18, lw=0)
        axes.plot(cuts, curve["profit"], color=ACCENT, lw=1.8)
        marks = {"highest": (*best, MUTED, "v", 9)}
        if at is not None:
            marks["policy"] = (at[0], at[1]["value"], SECOND, "o", -18)
        for name, (cut, height, colour, marker, above) in marks.items():
            axes.plot([cut], [height], marker, color=colour, ms=5.5, zorder=3)
            axes.annotate(name, (cut, height), (6, above), textcoords="offset points", color=colour)
        axes.set_xlim(0, 1)
        axes.set_xlabel("threshold: who is above it is contacted")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_ylabel("profit per customer")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(_short))
        return _svg(figure, "profit", label)


def effect(
    field: str,
    values: Sequence[float | bool | str],
    probabilities: Sequence[float],
    *,
    top: float,
    mean: float,
    label: str,
) -> str:
    """Draw the mean probability by the value of a field, beside that of all customers as they are.

    Args:
        field: Its name.
        values: A line is drawn through numbers; other values stand side by side.
        probabilities: The mean at each.
        top: Of the axis: the same for all fields, so that they can be compared.
        mean: The dashed line.
        label: For who cannot see it.
    """
    with mpl.rc_context(_RC):
        figure, axes = _drawing(_SMALL)
        axes.axhline(mean, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=0.9)
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            axes.plot(values, probabilities, color=ACCENT, lw=1.8)
            # Where customers are: about as many between any two of these.
            axes.plot(values, [0] * len(values), "|", color=SECOND, ms=7, clip_on=False)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(_short))
            axes.margins(x=0.03)
        else:
            names = [_word(value) for value in values]
            places = range(len(names))
            axes.bar(places, probabilities, width=0.5, color=ACCENT)
            for place, probability in zip(places, probabilities, strict=True):
                inside = probability > _TALL * top
                axes.annotate(
                    f"{probability:.0%}",
                    (place, probability),
                    (0, -3 if inside else 3),
                    textcoords="offset points",
                    ha="center",
                    va="top" if inside else "bottom",
                    color=SHEET if inside else INK,
                )
            axes.set_xticks(places, names)
            axes.set_xlim(-0.6, len(names) - 0.4)
            axes.grid(visible=False, axis="x")
        axes.set_ylim(0, top)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        return _svg(figure, field.replace("_", "-"), label)


def _drawing(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _percents(axes: Axes, *, x: str | None = None, y: str | None = None) -> None:
    if x is not None:
        axes.set_xlabel(x)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    if y is not None:
        axes.set_ylabel(y)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _around(figures: Sequence[Mapping[str, float]]) -> list[list[float]]:
    """Return how far each interval reaches below and above its figure."""
    return [
        [max(each["value"] - each["low"], 0.0) for each in figures],
        [max(each["high"] - each["value"], 0.0) for each in figures],
    ]


def _short(value: float, _: object = None) -> str:
    return f"{value / _MANY:g}k" if abs(value) >= _MANY else f"{value:g}"


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    head, hyphen, tail = str(value).rpartition("-")
    return f"{head}{hyphen}\n{tail}" if len(head) > _LONG else f"{head}{hyphen}{tail}"


def _svg(figure: Figure, name: str, label: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata=_NO_DATE)
    return inlined(file.getvalue(), name=name, label=label)
