"""The Grafana dashboard, written by ``python -m deploy.grafana.dashboard``.

It is kept as Python because a panel is then its question, its queries and what to do about it
(``panels.py``), and not 80 lines of JSON. Change it there, run this, and commit
``dashboards/churn-serving.json``, too; a test compares them.
"""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import yaml

from deploy.grafana.panels import EVENTS, GREEN, ROWS

if TYPE_CHECKING:
    from deploy.grafana.panels import Kind, Panel, Query

__all__ = ["DASHBOARD", "RUNBOOK", "dashboard"]

HERE: Final = Path(__file__).parent
DASHBOARD: Final = HERE / "dashboards" / "churn-serving.json"
RULES: Final = HERE.parent / "prometheus" / "rules.yaml"
RUNBOOK: Final = "/public/docs/runbook.md"
"""Where compose.yaml lets Grafana show docs/runbook.md; the variable `runbook` changes it."""

Json: TypeAlias = dict[str, Any]

COLUMNS: Final = 24
PROMETHEUS: Final = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> Json:
    """Return the dashboard as Grafana reads it."""
    return {
        "uid": "churn-serving",
        "title": "Churn serving",
        "description": "Top to bottom: are we up, are we fast, are we overloaded, what is the "
        "model saying, what is each version doing. The (i) of a panel says what to do about it.",
        "tags": ["churn-serving"],
        "schemaVersion": 41,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_event(query) for query in EVENTS]},
        "links": [
            _link("Runbook", "${runbook}"),
            _link("Alert rules", "/alerting/list"),
        ],
        "templating": {"list": _variables()},
        "panels": _laid_out(),
    }


def _link(title: str, url: str) -> Json:
    return {
        "type": "link",
        "icon": "doc",
        "title": title,
        "url": url,
        "targetBlank": True,
        "keepTime": False,
        "includeVars": False,
        "asDropdown": False,
        "tags": [],
        "tooltip": "",
    }


def _event(query: Query) -> Json:
    return {
        "name": query.legend.split("}} ")[-1],
        "datasource": PROMETHEUS,
        "enable": True,
        "iconColor": query.color,
        "expr": query.expr,
        "titleFormat": query.legend,
        "step": "30s",
    }


def _variables() -> list[Json]:
    def asked(name: str, label: str, query: str, **more: Any) -> Json:  # noqa: ANN401 - JSON
        return {
            "type": "query",
            "name": name,
            "label": label,
            "datasource": PROMETHEUS,
            "definition": query,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            **more,
        }

    return [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Prometheus",
            "query": "prometheus",
            "refresh": 1,
        },
        # The job is known even while no instance answers.
        asked("job", "Job", 'label_values(up{job=~".*churn.*"}, job)'),
        asked(
            "instance",
            "Instance",
            'label_values(up{job="$job"}, instance)',
            multi=True,
            includeAll=True,
            allValue=".*",
            current={"selected": True, "text": ["All"], "value": ["$__all"]},
        ),
        {
            "type": "textbox",
            "name": "runbook",
            "label": "Runbook",
            "description": "Where docs/runbook.md can be read; the panels link to its sections.",
            "query": RUNBOOK,
            "current": {"selected": True, "text": RUNBOOK, "value": RUNBOOK},
            "options": [{"selected": True, "text": RUNBOOK, "value": RUNBOOK}],
            "hide": 0,
        },
    ]


def _laid_out() -> list[Json]:
    """Return the panels with their places: left to right, then down."""
    drawn: list[Json] = []
    y = 0

    def place(panel: Json, x: int, width: int, height: int) -> None:
        drawn.append(
            {"id": len(drawn) + 1, "gridPos": {"x": x, "y": y, "w": width, "h": height}, **panel}
        )

    for row in ROWS:
        place({"type": "row", "title": row.title, "collapsed": False, "panels": []}, 0, COLUMNS, 1)
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + height
            place(_panel(panel), x, panel.width, panel.height)
            x, height = x + panel.width, panel.height
        y += height
    place({"type": "row", "title": "What to do first", "collapsed": False, "panels": []}, 0, 24, 1)
    y += 1
    place(_first_steps(), 0, COLUMNS, 15)
    return drawn


def _first_steps() -> Json:
    """Return what the rules say about each alert as a table."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    lines = {
        rule["alert"]: f"| [{rule['alert']}](${{runbook}}#{rule['alert'].lower()}) "
        f"| {rule['labels']['severity']} | {rule['annotations']['action']} |"
        for group in groups
        for rule in reversed(group["rules"])  # of those of one name, the most urgent one
        if "alert" in rule
    }
    header = ["| alert | severity | first step |", "|---|---|---|"]
    return {
        "type": "text",
        "title": "The first step for each alert",
        "description": "From rules.yaml. The links lead to the whole section of the runbook.",
        "options": {"mode": "markdown", "content": "\n".join([*header, *reversed(lines.values())])},
    }


def _panel(panel: Panel) -> Json:
    table = panel.kind == "table"
    drawn: Json = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": PROMETHEUS,
        "links": [
            {
                "title": f"Runbook: {alert}",
                "url": f"${{runbook}}#{alert.lower()}",
                "targetBlank": True,
            }
            for alert in panel.alerts
        ],
        "targets": [
            _target(panel, *named) for named in zip(_refs(panel), panel.queries, strict=True)
        ],
        "fieldConfig": {
            "defaults": _defaults(panel),
            "overrides": [*_column_overrides(panel)] if table else [*_series_overrides(panel)],
        },
        "options": _options(panel),
    }
    if table:
        drawn["transformations"] = _as_one_table(panel)
    return drawn


def _refs(panel: Panel) -> str:
    """Return the letters by which Grafana knows the queries."""
    return ascii_uppercase[: len(panel.queries)]


def _target(panel: Panel, ref: str, query: Query) -> Json:
    now = panel.kind in {"stat", "table"}
    return {
        "refId": ref,
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": now,
        "range": not now,
        "format": {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series"),
    }


def _defaults(panel: Panel) -> Json:
    steps = panel.thresholds or ((None, GREEN),)
    defaults: Json = {
        "unit": panel.unit,
        "noValue": panel.empty,
        "color": {"mode": "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": color} for value, color in steps],
        },
        "mappings": [
            {
                "type": "value",
                "options": {f"{value:g}": {"text": text, "color": color, "index": index}},
            }
            for index, (value, text, color) in enumerate(panel.values)
        ],
    }
    if panel.kind == "timeseries":
        defaults |= {
            # A version, or an instance, has the same colour in every panel.
            "color": {"mode": "palette-classic-by-name"},
            "min": 0,
            "custom": {
                "drawStyle": "line",
                # The line of a part that is 0 would look like a share of its own.
                "lineWidth": 0 if panel.stacked else 1,
                "fillOpacity": 60 if panel.stacked else 8,
                "showPoints": "never",
                "spanNulls": False,
                "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
                "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
                "axisSoftMin": 0,
                **({} if panel.top is None else {"axisSoftMax": panel.top}),
            },
        }
    return defaults


def _series_overrides(panel: Panel) -> list[Json]:
    overrides = [
        _override("byRegexp", f"/^{pattern}$/", color={"mode": "fixed", "fixedColor": color})
        for pattern, color in panel.colors
    ]
    for query in panel.queries:
        changed: Json = {}
        if query.color:
            changed["color"] = {"mode": "fixed", "fixedColor": query.color}
        if query.dashed:
            changed["custom.lineStyle"] = {"fill": "dash", "dash": [6, 6]}
            changed["custom.fillOpacity"] = 0
        if changed and panel.kind == "timeseries":
            overrides.append(_override("byName", query.legend, **changed))
    return overrides


def _column_overrides(panel: Panel) -> list[Json]:
    return [_override("byName", query.legend, unit=query.unit) for query in panel.queries]


def _override(matcher: str, what: str, **properties: Any) -> Json:  # noqa: ANN401 - JSON
    return {
        "matcher": {"id": matcher, "options": what},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def _options(panel: Panel) -> Json:
    last: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    options: dict[Kind, Json] = {
        "timeseries": {
            "legend": {
                "showLegend": True,
                "displayMode": "list",
                "placement": "bottom",
                "calcs": ["lastNotNull"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "stat": {
            "reduceOptions": last,
            "colorMode": "background",
            "graphMode": "none",
            "textMode": "value",
            "justifyMode": "center",
            "orientation": "auto",
        },
        "table": {"showHeader": True, "cellHeight": "sm"},
        "heatmap": {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 32, "exponent": 0.5},
            "yAxis": {"unit": panel.unit, "axisPlacement": "left"},
            "filterValues": {"le": 1e-9},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "yHistogram": True},
            "legend": {"show": True},
        },
    }
    return options[panel.kind]


def _as_one_table(panel: Panel) -> list[Json]:
    """Join the answers of all queries by their labels, and name the columns."""
    alone = len(panel.queries) == 1
    columns = {
        "Value" if alone else f"Value #{ref}": query.legend
        for ref, query in zip(_refs(panel), panel.queries, strict=True)
    }
    hidden = {"Time", *(column for column, name in columns.items() if not name)}
    return [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": dict.fromkeys(sorted(hidden), True),
                "renameByName": {column: name for column, name in columns.items() if name},
            },
        },
    ]


if __name__ == "__main__":
    DASHBOARD.write_text(json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n")
