"""A comparison as a picture: dots on labelled logarithmic axes, the best on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bench.harness.visit import MANY, ONE
from bench.kinds import KINDS
from bench.servers.ours import OURS
from bench.servers.server import PREDICT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

    from bench.harness.comparison import Comparison
    from bench.load.wrk import Sample

__all__ = ["Panel", "draw", "panels"]

_FIGURES: Final[tuple[tuple[Callable[[Sample], float], int], ...]] = (
    (lambda sample: sample.rate, MANY),
    (lambda sample: sample.cpu_us, MANY),
    (lambda sample: sample.p50_ms, ONE),
)
_OURS: Final = "#1b6ca8"
_OTHERS: Final = "#8a9299"


class Panel(NamedTuple):
    """One figure of each server; ``more_is_better`` says which of them is on top."""

    title: str
    figures: Mapping[str, float]
    more_is_better: bool = False


def panels(comparison: Comparison) -> list[list[Panel]]:
    """Return a row for each model."""
    rows = []
    for model in KINDS:
        rate, cpu, lone = (
            {
                one.server.title: value
                for one in comparison.of(model)
                if (value := one.sample(figure, PREDICT.name, connections)) is not None
            }
            for figure, connections in _FIGURES
        )
        if rate:
            rows.append(
                [
                    Panel(f"{model}: requests/s, {MANY} connections", rate, more_is_better=True),
                    Panel(f"{model}: CPU time per request, us", cpu),
                    Panel(f"{model}: p50 of a lone caller, ms", lone),
                ]
            )
    return rows


def draw(path: Path, rows: list[list[Panel]]) -> None:
    """Draw the panels, one row below the other."""
    # Imported late: it takes a second, and only `make bench` installs it.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    height = 1.2 + 0.3 * max(len(panel.figures) for row in rows for panel in row)
    figure, axes = plt.subplots(
        len(rows),
        len(rows[0]),
        figsize=(17, height * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for drawn, row in zip(axes, rows, strict=True):
        for where, panel in zip(drawn, row, strict=True):
            _draw(where, panel)
    figure.suptitle("The same model behind each server, on one core (logarithmic axes)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw(axes: Axes, panel: Panel) -> None:
    ranked = sorted(
        panel.figures.items(), key=lambda item: item[1], reverse=not panel.more_is_better
    )
    for place, (title, value) in enumerate(ranked):
        color = _OURS if title.startswith(OURS.title) else _OTHERS
        axes.plot(value, place, "o", color=color)
        axes.annotate(
            f"{value:,.0f}" if value >= 10 else f"{value:.2f}",  # noqa: PLR2004 - digits that matter
            (value, place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    better = "more" if panel.more_is_better else "less"
    axes.set_title(f"{panel.title} ({better} is better)", fontsize=9, loc="left")
    axes.set_yticks(range(len(ranked)), [title for title, _ in ranked], fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.08)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter("")
    axes.tick_params(axis="x", labelsize=7)
    axes.tick_params(axis="y", length=0)
    axes.grid(color="#e5e7ea", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
