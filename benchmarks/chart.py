"""The comparison as a picture: CPU time per request and requests per second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.servers import MANY_PREDICT, MODELS

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.compare import Comparison, Figure

__all__ = ["write_chart"]

_PANELS: Final[tuple[tuple[Figure, str], ...]] = (
    ("cpu_us", "CPU time per request, us (less is better)"),
    ("rate", "requests per second (more is better)"),
)
_OURS: Final = "#1b6ca8"
_PEER: Final = "#b8bfc6"
_LIMIT: Final = "#e5e7ea"


def write_chart(path: Path, comparison: Comparison) -> None:
    """Draw ``POST /predict`` with 32 connections; the labels give the ratio to ours."""
    count = max(len(comparison.servers) // len(MODELS), 3)
    figure, panels = plt.subplots(
        len(MODELS), len(_PANELS), figsize=(14, 1.5 + count), squeeze=False, layout="constrained"
    )
    for row, model in zip(panels, MODELS, strict=True):
        for axes, (name, title) in zip(row, _PANELS, strict=True):
            _draw(axes, comparison, model, name)
            axes.set_title(f"{model}: {title}", fontsize=10, loc="left")
    figure.suptitle(
        f"POST {MANY_PREDICT.path}, {MANY_PREDICT.connections} connections, one core for the server"
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw(axes: Axes, comparison: Comparison, model: str, name: Figure) -> None:
    ours = comparison.median(f"ours/{model}", MANY_PREDICT, name)
    bars = []
    for server in comparison.servers:
        value = comparison.median(server.name, MANY_PREDICT, name)
        if value is not None and (server.model == model or server.constant):
            color = _LIMIT if server.constant else _PEER
            color = _OURS if server.title.startswith("churn-serving") else color
            bars.append((server.title, value, color))
    bars.reverse()  # the first one on top
    titles, values, colors = zip(*bars, strict=True) if bars else ((), (), ())
    drawn = axes.barh(titles, values, color=colors)
    labels = [
        f" {value:,.0f}" + (f"  ({value / ours:.2f} x ours)" if ours else "") for value in values
    ]
    axes.bar_label(drawn, labels, fontsize=8)
    axes.margins(x=0.3)
    axes.set_xticks([])
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
