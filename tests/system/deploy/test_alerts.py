"""The Prometheus rules are valid, fire when they should, and each alert leads to its runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from churn_serving.http.api import ENDPOINTS
from churn_serving.telemetry.metrics import FAMILIES, HTTP_DURATION
from tests.tools import tool

PROJECT: Final = Path(__file__).parents[3]
PROMETHEUS: Final = PROJECT / "deploy" / "prometheus"
RUNBOOK: Final = "docs/runbook.md"

# What a rule may ask for: what the service exposes, and what Prometheus says of each target.
SUFFIXES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count")}
EXPOSED: Final = {
    family.name + suffix for family in FAMILIES.values() for suffix in SUFFIXES[family.kind]
} | {"up"}

RULES: Final[list[dict[str, Any]]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS: Final = [rule for rule in RULES if "alert" in rule]
RECORDED: Final = {rule["record"] for rule in RULES if "record" in rule}
EXPRESSIONS: Final = [rule["expr"] for rule in RULES]

# Words of PromQL that are neither metrics nor followed by a parenthesis.
KEYWORDS: Final = {"and", "bool", "inf", "or", "offset", "unless"}
LABEL_LISTS: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [tool("promtool"), *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def metrics(expression: str) -> set[str]:
    """Return the metrics that a PromQL expression asks for."""
    bare = LABEL_LISTS.sub("", re.sub(r'\{[^}]*\}|\[[^]]*\]|"[^"]*"', "", expression))
    return set(re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)) - KEYWORDS


def queries() -> list[str]:
    """Return the queries that the runbook shows."""
    text = (PROJECT / RUNBOOK).read_text()
    blocks = re.findall(r"^```promql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", "--lint-fatal", PROMETHEUS / "rules.yaml")


def test_the_scrape_configuration_is_valid() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yaml")


def test_the_alerts_fire_when_they_should_and_not_otherwise() -> None:
    promtool("test", "rules", PROMETHEUS / "rules.test.yaml")


@pytest.mark.parametrize("name", sorted({alert["alert"] for alert in ALERTS}))
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    cases = [
        bool(case["exp_alerts"])
        for group in yaml.safe_load((PROMETHEUS / "rules.test.yaml").read_text())["tests"]
        for case in group.get("alert_rule_test", [])
        if case["alertname"] == name
    ]
    assert set(cases) == {True, False}


def test_the_reader_of_expressions_sees_every_metric() -> None:
    expression = """
      sum by (job, le) (rate(a_total{x="b", y=~"c(d)"}[5m] offset 1h)) / (e:f_g:rate5m > 1.1e3)
      and on (job) group_left () h or absent(up{job="i"}) - 0.5 or vector(1)
    """
    assert metrics(expression) == {"a_total", "e:f_g:rate5m", "h", "up"}


def test_what_is_asked_for_is_exposed_or_recorded() -> None:
    asked = set().union(*map(metrics, [*EXPRESSIONS, *queries()]))
    assert asked - EXPOSED - RECORDED == set()


def test_only_this_job_is_asked() -> None:
    (scrape,) = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())["scrape_configs"]
    selector = f'{{job="{scrape["job_name"]}"'
    for expression in EXPRESSIONS:
        for metric in metrics(expression) - RECORDED:
            asked = len(re.findall(rf"\b{metric}\b", expression))
            assert expression.count(metric + selector) == asked, expression


def test_the_prediction_routes_of_the_rules_are_those_of_the_service() -> None:
    routes = {routes for text in EXPRESSIONS for routes in re.findall(r'route=~"([^"]*)"', text)}
    assert [sorted(alternatives.split("|")) for alternatives in routes] == [sorted(ENDPOINTS)]


def test_the_latency_limit_is_a_bound_of_the_histogram() -> None:
    bounds = {float(le) for text in EXPRESSIONS for le in re.findall(r'le="([^"]*)"', text)}
    assert bounds == {0.1}
    assert bounds <= set(HTTP_DURATION.bounds)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_is_wrong_and_what_to_do_first(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket"}
    annotations = alert["annotations"]
    assert set(annotations) == {"summary", "description", "action", "runbook"}
    assert "$value" in annotations["description"]
    assert len(annotations["action"].splitlines()) == 1
    assert annotations["runbook"] == f"{RUNBOOK}#{alert['alert'].lower()}"


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    text = (PROJECT / RUNBOOK).read_text()
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert len(sections) == len(set(sections))
    assert set(sections) == {alert["alert"] for alert in ALERTS}
    linked = set(re.findall(r"\(#([^)]*)\)", text))
    assert linked <= {section.lower() for section in sections}


def test_the_queries_of_the_runbook_are_valid(tmp_path: Path) -> None:
    rules = [{"record": f"query_{i}", "expr": query} for i, query in enumerate(queries())]
    assert len(rules) > 5
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", path)
