"""The comparison as a picture: requests per second, CPU time and latency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.frameworks.registry import OURS
from benchmarks.servers import MANY, MODELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.frameworks.comparison import Comparison, Seen
    from benchmarks.frameworks.trial import Trial

__all__ = ["write_chart"]

_PANELS: Final[tuple[tuple[str, Callable[[Trial], float]], ...]] = (
    (f"requests/s, {MANY} connections (more is better)", lambda trial: trial.many.rate),
    ("CPU time per request, us (less is better)", lambda trial: trial.many.cpu_us),
    ("p50 of a lone caller, ms (less is better)", lambda trial: trial.one.p50_ms),
)
_OURS: Final = "#1b6ca8"
_OTHERS: Final = "#b8bfc6"


def write_chart(path: Path, comparison: Comparison) -> None:
    """Draw a row for each model, on logarithmic scales: the frameworks are that far apart."""
    seen = {model: comparison.of(model) for model in MODELS if comparison.of(model)}
    if not seen:
        return
    height = 1.2 + 0.32 * max(map(len, seen.values()))
    figure, rows = plt.subplots(
        len(seen),
        len(_PANELS),
        figsize=(15, height * len(seen)),
        squeeze=False,
        layout="constrained",
    )
    for row, (model, ranked) in zip(rows, seen.items(), strict=True):
        for column, (axes, (title, figure_of)) in enumerate(zip(row, _PANELS, strict=True)):
            _draw(axes, ranked, figure_of, named=column == 0)
            axes.set_title(f"{model}: {title}", fontsize=9, loc="left")
    figure.suptitle("The same model behind each server, on one core")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw(
    axes: Axes, ranked: list[Seen], figure_of: Callable[[Trial], float], *, named: bool
) -> None:
    values = [seen.known(figure_of) for seen in reversed(ranked)]  # the first one on top
    titles = [seen.title for seen in reversed(ranked)]
    colors = [_OURS if title == OURS.title else _OTHERS for title in titles]
    drawn = axes.barh(titles, values, color=colors)
    labels = [f" {value:,.0f}" if value >= 10 else f" {value:.2f}" for value in values]  # noqa: PLR2004 - two digits are enough above ten
    axes.bar_label(drawn, labels, fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", labelsize=8, length=0, labelleft=named)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
