"""The dashboard is well-formed, asks only for what exists, and Grafana finds all it is given."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any, Final

import pytest
import yaml

from churn_serving.http.api import ENDPOINTS
from churn_serving.telemetry.metrics import FAMILIES, HTTP_DURATION
from deploy.grafana.dashboard import COLUMNS, DASHBOARD, RUNBOOK, dashboard
from deploy.grafana.panels import ALLOWED_FAILURES, BUSY_CPU, SLOW_SECONDS
from deploy.grafana.queries import filled, load_dashboard
from tests.system.deploy.test_alerts import ALERTS, EXPOSED, PROJECT, PROMETHEUS, RECORDED, metrics

SHIPPED: Final = load_dashboard()
PANELS: Final = [panel for panel in SHIPPED["panels"] if panel["type"] != "row"]
DRAWN: Final = [panel for panel in PANELS if panel["type"] != "text"]
VARIABLES: Final = {one["name"]: one for one in SHIPPED["templating"]["list"]}
EXPRESSIONS: Final = [target["expr"] for panel in DRAWN for target in panel["targets"]]
EVENTS: Final = [event["expr"] for event in SHIPPED["annotations"]["list"]]

# Beyond what rules ask for: sums, for means, and Prometheus's own account of the alerts.
ASKABLE: Final = (
    EXPOSED
    | RECORDED
    | {"ALERTS"}
    | {f"{family.name}_sum" for family in FAMILIES.values() if family.kind == "histogram"}
)

PROVISIONING: Final = PROJECT / "deploy" / "grafana" / "provisioning"
COMPOSE: Final = yaml.safe_load((PROJECT / "deploy" / "compose" / "compose.yaml").read_text())
MOUNTS: Final = {
    mount["target"]: (PROJECT / "deploy" / "compose" / mount["source"]).resolve()
    for mount in COMPOSE["services"]["grafana"]["volumes"]
    if isinstance(mount, dict)
}


def provisioned(folder: str) -> Any:
    (path,) = (PROVISIONING / folder).iterdir()
    return yaml.safe_load(path.read_text())


def titled(panel: dict[str, Any]) -> str:
    return str(panel["title"])


def test_the_shipped_dashboard_is_what_the_code_writes() -> None:
    assert dashboard() == SHIPPED, "run: python -m deploy.grafana.dashboard"


def test_the_questions_come_in_their_order() -> None:
    rows = [panel["title"] for panel in SHIPPED["panels"] if panel["type"] == "row"]
    assert [re.split(r"[?.]", row)[0] for row in rows] == [
        "Are we up",
        "Are we fast",
        "Are we overloaded",
        "What is the model saying",
        "What do we decide",
        "What is each version doing",
        "What to do first",
    ]


def test_no_two_panels_have_the_same_number_or_title() -> None:
    assert len({panel["id"] for panel in SHIPPED["panels"]}) == len(SHIPPED["panels"])
    assert len({panel["title"] for panel in SHIPPED["panels"]}) == len(SHIPPED["panels"])


def test_no_two_panels_share_a_place() -> None:
    for one, other in combinations(SHIPPED["panels"], 2):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or apart, (one["title"], other["title"])
    assert all(0 <= place["x"] <= COLUMNS - place["w"] for place in map(_place, SHIPPED["panels"]))


def _place(panel: dict[str, Any]) -> dict[str, int]:
    place: dict[str, int] = panel["gridPos"]
    return place


@pytest.mark.parametrize("panel", DRAWN, ids=titled)
def test_a_panel_says_what_it_shows_and_what_to_do(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["noValue"]
    assert len(panel["description"].split()) > 10
    assert panel["datasource"]["uid"] == "${datasource}"
    names = [target["refId"] for target in panel["targets"]]
    assert len(names) == len(set(names)) > 0


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *EVENTS])
def test_a_query_asks_only_for_what_is_exposed_or_recorded(expression: str) -> None:
    assert metrics(expression) - ASKABLE == set()


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *EVENTS])
def test_a_query_follows_the_variables(expression: str) -> None:
    for metric in metrics(expression):
        asked = len(re.findall(rf"(?<![\w:]){metric}\b", expression))
        own = '{job="$job", instance=~"$instance"'
        # What is recorded, and ALERTS, is of the job and not always of an instance.
        selector = '{job="$job"' if metric in RECORDED | {"ALERTS"} else own
        assert expression.count(metric + selector) == asked
    assert "$" not in filled(expression)


def test_every_variable_is_used() -> None:
    text = DASHBOARD.read_text()
    for name in VARIABLES:
        assert f"${name}" in text or f"${{{name}}}" in text


def test_every_metric_of_the_service_is_shown_or_left_out_on_purpose() -> None:
    shown = set().union(*map(metrics, EXPRESSIONS + EVENTS))
    bases = {re.sub(r"_(total|bucket|count|sum)$", "", metric) for metric in shown}
    assert set(FAMILIES) - bases == {
        "ml_batch_size",  # a matter of tuning, not of operation
        "ml_breaker_opened",  # the state says it
        "ml_fds_exhausted",  # a line in the log says it, and what to do
        "ml_model_pickled",  # it was allowed on purpose, and a line at the start says it
        "process_open_fds",  # asked for when the memory grows
    }


def test_the_limits_are_those_of_the_rules() -> None:
    rules = {alert["alert"]: alert["expr"] for alert in ALERTS}
    assert f"> {SLOW_SECONDS}\n" in rules["ChurnLatencyHigh"]
    assert SLOW_SECONDS in HTTP_DURATION.bounds
    assert rules["ChurnCpuSaturated"].endswith(f"> {BUSY_CPU}")
    assert f"* {ALLOWED_FAILURES}" in rules["ChurnErrorBudgetBurn"]


def test_the_prediction_routes_are_those_of_the_service() -> None:
    routes = {found for text in EXPRESSIONS for found in re.findall(r'route=~"([^"]*)"', text)}
    assert [alternatives.split("|") for alternatives in routes] == [sorted(ENDPOINTS)]


def test_every_alert_has_a_panel_that_explains_it_and_a_first_step() -> None:
    sections = {
        section.lower()
        for section in re.findall(
            r"^## (.*)$", (PROJECT / "docs/runbook.md").read_text(), re.MULTILINE
        )
    }
    links = [link["url"] for panel in DRAWN for link in panel["links"]]
    assert all(link.startswith("${runbook}#") for link in links)
    assert {link.partition("#")[2] for link in links} == sections
    (steps,) = (panel for panel in PANELS if panel["type"] == "text")
    listed = re.findall(
        r"^\| \[(\w+)\]\(\$\{runbook\}#(\w+)\)", steps["options"]["content"], re.MULTILINE
    )
    names = list(dict.fromkeys(alert["alert"] for alert in ALERTS))
    assert listed == [(name, name.lower()) for name in names]


def test_grafana_finds_prometheus_and_shows_its_alerts() -> None:
    (source,) = provisioned("datasources")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in COMPOSE["services"]
    assert source["jsonData"]["manageAlerts"] is True
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == scraped["scrape_interval"]


def test_grafana_finds_the_dashboard_and_opens_with_it() -> None:
    (provider,) = provisioned("dashboards")["providers"]
    folder = provider["options"]["path"]
    assert MOUNTS[folder] == DASHBOARD.parent
    environment = COMPOSE["services"]["grafana"]["environment"]
    home = environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/{DASHBOARD.name}"
    assert MOUNTS["/etc/grafana/provisioning"] == PROVISIONING


def test_grafana_serves_the_runbook_where_the_panels_look_for_it() -> None:
    assert VARIABLES["runbook"]["query"] == RUNBOOK
    assert MOUNTS[f"/usr/share/grafana{RUNBOOK}"] == PROJECT / "docs" / "runbook.md"


def test_whoever_is_on_call_is_told_of_what_prometheus_reports() -> None:
    told = provisioned("alerting")
    (group,) = told["groups"]
    (rule,) = group["rules"]
    firing, condition = rule["data"]
    (source,) = provisioned("datasources")["datasources"]
    (scrape,) = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())["scrape_configs"]
    assert firing["datasourceUid"] == source["uid"]
    assert f'job="{scrape["job_name"]}", alertstate="firing"' in firing["model"]["expr"]
    # Grafana gives every alert of its own this label, so Prometheus's must have another name.
    assert "label_replace" in firing["model"]["expr"]
    assert "$labels.alertname" not in rule["annotations"]["summary"]
    assert condition["refId"] == rule["condition"]
    assert condition["model"]["expression"] == firing["refId"]
    for query in rule["data"]:
        assert query["model"]["refId"] == query["refId"]


def test_there_is_somebody_to_be_told() -> None:
    told = provisioned("alerting")
    (contact,) = told["contactPoints"]
    (policy,) = told["policies"]
    receivers = {policy["receiver"], *(route["receiver"] for route in policy["routes"])}
    assert receivers == {contact["name"]}
    (receiver,) = contact["receivers"]
    variable = receiver["settings"]["url"].removeprefix("$")
    # An empty address would keep Grafana from starting.
    assert COMPOSE["services"]["grafana"]["environment"][variable].startswith(
        f"${{{variable}:-http"
    )
    for route in (policy, *policy["routes"]):
        assert "alert" in route["group_by"]
    severities = {alert["labels"]["severity"] for alert in ALERTS}
    for route in policy["routes"]:
        assert {value for _, _, value in route["object_matchers"]} <= severities


@pytest.mark.parametrize("folder", ["alerting", "dashboards", "datasources"])
def test_what_is_provisioned_is_of_the_version_that_grafana_reads(folder: str) -> None:
    assert provisioned(folder)["apiVersion"] == 1
