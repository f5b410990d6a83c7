"""A picture of the dashboard without Grafana: its panels' queries, drawn by matplotlib.

``python -m deploy.grafana.preview http://localhost:9090 --minutes 60 --out dashboard.png``
"""

from __future__ import annotations

import argparse
import math
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from deploy.grafana.queries import ask, load_dashboard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from deploy.grafana.dashboard import Json

__all__ = ["draw"]

PAGE: Final = "#111217"
PANEL: Final = "#1c1e23"
LINE: Final = "#34363c"
TEXT: Final = "#d8d9da"
FAINT: Final = "#9a9ca3"
COLORS: Final = {
    "green": "#73bf69",
    "yellow": "#fade2a",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "purple": "#b877d9",
}
# For what has no colour of its own: a version, or an instance, keeps the one it got first.
PALETTE: Final = ("#5794f2", "#ff9830", "#73bf69", "#b877d9", "#fade2a", "#f2495c", "#56d2e0")
COLUMN_INCHES: Final = 0.7
UNIT_INCHES: Final = 0.3
MARGIN_INCHES: Final = 0.12
DPI: Final = 100
SMALL: Final = 7.5
LEGEND_COLUMNS: Final = 3
MANY_POINTS: Final = 240


@dataclass(slots=True)
class _Canvas:
    """Where the panels are drawn, and what they share."""

    figure: Figure
    height: float
    start: float
    end: float
    names: dict[str, list[str]] = field(default_factory=dict)

    def color(self, legend: str, name: str) -> str:
        known = self.names.setdefault(legend, [])
        if name not in known:
            known.append(name)
        return PALETTE[known.index(name) % len(PALETTE)]

    def place(self, panel: Json, inset: Sequence[float] = (0, 0, 0, 0)) -> Axes:
        """Return axes at a panel's place; `inset` in inches: left, bottom, right, top."""
        grid = panel["gridPos"]
        width, height = self.figure.get_size_inches()
        left = grid["x"] * COLUMN_INCHES + MARGIN_INCHES + inset[0]
        right = (grid["x"] + grid["w"]) * COLUMN_INCHES - MARGIN_INCHES / 2 - inset[2]
        top = self.height - grid["y"] * UNIT_INCHES - inset[3]
        bottom = self.height - (grid["y"] + grid["h"]) * UNIT_INCHES + MARGIN_INCHES + inset[1]
        return self.figure.add_axes(
            (left / width, bottom / height, (right - left) / width, (top - bottom) / height)
        )


def draw(
    url: str,
    path: Path,
    *,
    start: float,
    end: float,
    rate_interval: str = "1m",
    note: str = "",
) -> None:
    """Draw all panels with queries.

    Args:
        url: Of Prometheus.
        path: Of the picture.
        start: Unix time.
        end: Unix time.
        rate_interval: Rates are over so long; at least four times the scrape interval.
        note: What the data are of.
    """
    dashboard = load_dashboard()
    panels = [panel for panel in dashboard["panels"] if panel["type"] in (*_DRAW, "row")]
    while panels[-1]["type"] == "row":  # it heads a text
        panels.pop()
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    height = rows * UNIT_INCHES
    figure = plt.figure(figsize=(24 * COLUMN_INCHES + MARGIN_INCHES, height + 0.75), facecolor=PAGE)
    canvas = _Canvas(figure, height, start, end)
    _write(figure, 0.16, height + 0.5, dashboard["title"], size=15, weight="bold")
    when = datetime.fromtimestamp(end, UTC)
    caption = (
        "Drawn by deploy/grafana/preview.py from the queries of the dashboard's panels; "
        f"not a screenshot of Grafana. {note}".strip()
    )
    _write(figure, 0.16, height + 0.22, f"{caption} {when:%Y-%m-%d}, UTC.", size=9, color=FAINT)
    step = max(1.0, (end - start) / MANY_POINTS)
    for panel in panels:
        if panel["type"] == "row":
            _row(canvas, panel)
            continue
        answers = [
            ask(url, target, start=start, end=end, step=step, rate_interval=rate_interval)
            for target in panel["targets"]
        ]
        _box(canvas, panel)
        _DRAW[panel["type"]](canvas, panel, answers)
    figure.savefig(path, dpi=DPI, facecolor=PAGE)
    plt.close(figure)


def _write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:  # noqa: ANN401 - matplotlib's own
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, **{"color": TEXT, "va": "center", **style})


def _row(canvas: _Canvas, panel: Json) -> None:
    y = canvas.height - (panel["gridPos"]["y"] + 0.5) * UNIT_INCHES
    _write(canvas.figure, 0.16, y, panel["title"], size=12, weight="bold")


def _box(canvas: _Canvas, panel: Json) -> None:
    axes = canvas.place(panel)
    axes.set_facecolor(PANEL)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(LINE)
    grid = panel["gridPos"]
    x = grid["x"] * COLUMN_INCHES + 2 * MARGIN_INCHES
    y = canvas.height - grid["y"] * UNIT_INCHES - 0.15
    _write(canvas.figure, x, y, panel["title"], size=9, zorder=9)


def _stat(canvas: _Canvas, panel: Json, answers: list[list[Json]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    found = [float(one["value"][1]) for one in answers[0]]
    text, color = defaults["noValue"], FAINT
    if found:
        text, color = _formatted(found[0], defaults["unit"]), _threshold(defaults, found[0])
        for mapping in defaults["mappings"]:
            if named := mapping["options"].get(f"{found[0]:g}"):
                text, color = named["text"], COLORS[named["color"]]
    axes = canvas.place(panel, (0.06, 0.06, 0.06, 0.27))
    axes.set_facecolor(color)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=21, weight="bold", color=PAGE)


def _threshold(defaults: Json, value: float) -> str:
    passed = [
        step["color"]
        for step in defaults["thresholds"]["steps"]
        if step["value"] is None or value >= step["value"]
    ]
    return COLORS[passed[-1]]


def _timeseries(canvas: _Canvas, panel: Json, answers: list[list[Json]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    lines = [
        (target["legendFormat"], _named(target["legendFormat"], one["metric"]), _points(one))
        for target, answer in zip(panel["targets"], answers, strict=True)
        for one in answer
    ]
    axes = _axes(canvas, panel, legend_rows=-(-len(lines) // LEGEND_COLUMNS))
    moments = sorted({moment for _, _, points in lines for moment in points})
    base = [0.0] * len(moments)
    highest = 0.0
    for legend, name, points in lines:
        color, dashed = _style(panel, name)
        color = color or canvas.color(legend if "{{" in legend else panel["title"], name)
        values = [points.get(moment, math.nan) for moment in moments]
        label = f"{name}  {_formatted(_last(values), defaults['unit'])}"
        if custom["stacking"]["mode"] == "normal":
            above = [
                low + (0 if math.isnan(value) else value)
                for low, value in zip(base, values, strict=True)
            ]
            axes.fill_between(moments, base, above, color=color, alpha=0.6, lw=0, label=label)
            values = base = above
        else:
            axes.plot(moments, values, color=color, lw=1.2, ls="--" if dashed else "-", label=label)
            if not dashed:
                axes.fill_between(moments, values, color=color, alpha=0.1, lw=0)
        highest = max([highest, *(value for value in values if math.isfinite(value))])
    top = max(highest * 1.1, custom.get("axisSoftMax", 0)) or 1
    for step in defaults["thresholds"]["steps"][1:]:
        if custom["thresholdsStyle"]["mode"] != "off" and step["value"] < top:
            axes.axhline(step["value"], color=COLORS[step["color"]], lw=0.9, ls=(0, (5, 4)))
    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: _formatted(value, defaults["unit"]))
    )
    axes.yaxis.set_major_locator(
        FixedLocator(_binary_ticks(top)) if defaults["unit"] == "bytes" else MaxNLocator(4)
    )
    if lines:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.13),
            ncols=LEGEND_COLUMNS,
            fontsize=SMALL,
            labelcolor=TEXT,
            frameon=False,
            handlelength=1.2,
            columnspacing=1.4,
            borderaxespad=0,
        )
    else:
        _nothing(axes, defaults["noValue"])


def _binary_ticks(top: float) -> list[float]:
    step = 2 ** math.ceil(math.log2(top / 5))
    return [float(number * step) for number in range(int(top // step) + 1)]


def _heatmap(canvas: _Canvas, panel: Json, answers: list[list[Json]]) -> None:
    axes = _axes(canvas, panel, legend_rows=0)
    series = {float(one["metric"]["le"]): _points(one) for one in answers[0]}
    bounds = sorted(series)
    moments = sorted({moment for points in series.values() for moment in points})
    # Buckets are cumulative: an answer is in the first whose bound it does not pass.
    counts = []
    for low, bound in zip([None, *bounds], bounds, strict=False):
        below = series[low] if low is not None else {}
        counts.append(
            [max(series[bound].get(at, 0) - below.get(at, 0), 0) ** 0.5 for at in moments]
        )
    used = [row for row, values in enumerate(counts) if any(values)]
    if not used:
        _nothing(axes, panel["fieldConfig"]["defaults"]["noValue"])
        return
    first, last = max(used[0] - 1, 0), min(used[-1] + 1, len(bounds) - 1)
    blues = LinearSegmentedColormap.from_list("blues", [PANEL, "#1f4e8c", "#5794f2", "#c8ddff"])
    axes.pcolormesh(
        moments,
        range(last - first + 1),
        counts[first : last + 1],
        cmap=blues,
        shading="nearest",
        rasterized=True,
    )
    axes.set_yticks(
        [row + 0.5 for row in range(last - first + 1)],
        [_formatted(bound, "s") for bound in bounds[first : last + 1]],
    )
    axes.grid(visible=False)


def _table(canvas: _Canvas, panel: Json, answers: list[list[Json]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    organize = panel["transformations"][1]["options"]
    names = organize["renameByName"]
    units = {
        override["matcher"]["options"]: override["properties"][0]["value"]
        for override in panel["fieldConfig"]["overrides"]
    }
    columns: list[str] = []
    rows: list[dict[str, str]] = []
    for target, answer in zip(panel["targets"], answers, strict=True):
        raw = "Value" if len(answers) == 1 else f"Value #{target['refId']}"
        for one in answer:
            cells = {key: value for key, value in one["metric"].items() if key != "__name__"}
            row = next((row for row in rows if _agree(row, cells)), None)
            if row is None:
                rows.append(row := {})
            if raw not in organize["excludeByName"]:
                column = names[raw]
                cells[column] = _formatted(float(one["value"][1]), units[column])
            row.update(cells)
            columns += [column for column in cells if column not in columns]
    axes = canvas.place(panel, (0.15, 0.05, 0.15, 0.32))
    axes.axis("off")
    if not rows:
        _nothing(axes, defaults["noValue"])
        return
    lines = max(len(rows) + 1, 4)
    for place, column in enumerate(columns):
        x = place / len(columns)
        axes.text(x, 1 - 0.5 / lines, column, fontsize=8, color=COLORS["blue"], va="center")
        for number, row in enumerate(rows[: lines - 1]):
            y = 1 - (number + 1.5) / lines
            axes.text(x, y, row.get(column, ""), fontsize=9, color=TEXT, va="center")


def _agree(row: dict[str, str], cells: dict[str, str]) -> bool:
    """Return whether Grafana would merge them into one row."""
    shared = row.keys() & cells.keys()
    return bool(shared) and all(row[key] == cells[key] for key in shared)


_DRAW: Final = {"stat": _stat, "timeseries": _timeseries, "heatmap": _heatmap, "table": _table}


def _axes(canvas: _Canvas, panel: Json, *, legend_rows: int) -> Axes:
    axes = canvas.place(panel, (0.62, 0.3 + 0.16 * min(legend_rows, 3), 0.15, 0.35))
    axes.set_facecolor(PANEL)
    axes.spines[:].set_visible(False)
    axes.grid(color=LINE, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=SMALL, length=0)
    axes.set_xlim(canvas.start, canvas.end)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda at, _: f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}")
    )
    return axes


def _nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=FAINT, fontsize=9)


def _style(panel: Json, name: str) -> tuple[str, bool]:
    """Return the colour of a series, if it has its own, and whether it is a limit."""
    color, dashed = "", False
    for override in panel["fieldConfig"]["overrides"]:
        for changed in override["properties"] if _concerns(override, name) else ():
            if changed["id"] == "color":
                fixed = changed["value"]["fixedColor"]
                color = COLORS.get(fixed, fixed)
            dashed = dashed or changed["id"] == "custom.lineStyle"
    return color, dashed


def _concerns(override: Json, name: str) -> bool:
    what = override["matcher"]["options"]
    if override["matcher"]["id"] == "byRegexp":
        return re.search(what.strip("/"), name) is not None
    return bool(what == name)


def _named(legend: str, labels: dict[str, str]) -> str:
    for label, value in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend


def _points(series: Json) -> dict[float, float]:
    return {float(moment): float(value) for moment, value in series["values"]}


def _last(values: list[float]) -> float:
    return next((value for value in reversed(values) if math.isfinite(value)), math.nan)


def _formatted(value: float, unit: str) -> str:
    """Return a figure as Grafana would show it."""
    if not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{value * 100:.3g} %" if value < 0.9995 else f"{value * 100:.5g} %"
    if unit == "bytes":
        return f"{value / 2**20:,.0f} MiB" if value >= 2**20 else f"{value / 2**10:,.1f} KiB"
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
            if value * factor >= 1 or name == "µs":
                return "0 s" if value == 0 else f"{value * factor:.3g} {name}"
    suffix = {"reqps": " req/s", "cps": " c/s"}.get(unit, "")
    return f"{value:.3g}{suffix}" if value < 1000 else f"{value:,.0f}{suffix}"


def main() -> None:
    """Draw what a running Prometheus has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of Prometheus, for example http://localhost:9090")
    parser.add_argument("--minutes", type=float, default=60, help="how far back (60)")
    parser.add_argument("--rate-interval", default="1m", help="rates are over so long (1m)")
    parser.add_argument("--out", type=Path, default=Path("dashboard.png"))
    given = parser.parse_args()
    now = time.time()
    draw(
        given.url,
        given.out,
        start=now - 60 * given.minutes,
        end=now,
        rate_interval=given.rate_interval,
    )


if __name__ == "__main__":
    main()
