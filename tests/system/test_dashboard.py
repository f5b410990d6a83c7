"""A real Prometheus answers every query of the dashboard with data of real servers under load."""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from deploy.grafana.queries import ask, filled, load_dashboard
from tests.system.deploy.test_alerts import ALERTS, RULES
from tests.system.deploy.test_grafana import PROVISIONING
from tests.system.scene import Scene, play, staged
from tests.system.test_prometheus import eventually
from tests.tools import module, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

DASHBOARD: Final = load_dashboard()
TARGETS: Final = [
    pytest.param(target, id=f"{panel['title']}-{target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]
EVENTS: Final = {event["name"]: event["expr"] for event in DASHBOARD["annotations"]["list"]}

# Set to docs/dashboard.png it draws the picture anew, which needs what `make bench` installs.
PICTURE: Final = os.environ.get("CHURN_DASHBOARD_PICTURE")
PICTURE_SECONDS: Final = 8 * 60
SECONDS: Final = 16

# What there is nothing of on this stage.
NO_EVENT: Final = {
    "fires": "an alert fires after two minutes of trouble at the earliest",
    "started": "nobody starts a server again",
}
LABEL_VALUES: Final = re.compile(r"label_values\((?P<selector>.*), (?P<label>\w+)\)")


@pytest.fixture(scope="module")
def scene(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    tool("prometheus")  # without it, there is no use in starting servers
    with staged(models, tmp_path_factory.mktemp("scene")) as scene:
        play(scene, seconds=PICTURE_SECONDS if PICTURE else SECONDS)
        scored = 'min by (instance) (increase(ml_predictions_total{outcome="churn"}[1h]))'
        assert eventually(lambda: min(scene.prometheus.query(scored).values()) > 0)
        yield scene


def finite(series: list[dict[str, Any]]) -> list[float]:
    """Return the values of all series that are numbers."""
    values = (float(value) for one in series for _, value in one.get("values", [one.get("value")]))
    return [value for value in values if math.isfinite(value)]


def ask_scene(scene: Scene, target: dict[str, Any]) -> list[dict[str, Any]]:
    return ask(scene.prometheus.url, target, start=scene.began, end=time.time(), step=1)


@pytest.mark.parametrize("target", TARGETS)
def test_every_query_of_the_dashboard_returns_data(scene: Scene, target: dict[str, Any]) -> None:
    assert eventually(lambda: finite(ask_scene(scene, target)) != []), target["expr"]


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_of_the_dashboard_is_found(scene: Scene, name: str) -> None:
    found = ask_scene(scene, {"expr": EVENTS[name], "instant": False})
    assert (finite(found) == []) == (name in NO_EVENT)


@pytest.mark.parametrize("name", ["job", "instance"])
def test_every_variable_has_values(scene: Scene, name: str) -> None:
    (variable,) = (one for one in DASHBOARD["templating"]["list"] if one["name"] == name)
    query = LABEL_VALUES.fullmatch(filled(variable["query"]["query"]))
    assert query
    values = scene.prometheus.get(
        f"label/{query['label']}/values", **{"match[]": query["selector"]}
    )
    servers = [server.url.removeprefix("http://") for server in (scene.stable, scene.canary)]
    assert values == {"job": ["churn-serving"], "instance": sorted(servers)}[name]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_rule_can_be_asked_by_hand(scene: Scene, rule: dict[str, Any]) -> None:
    def answer() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = scene.prometheus.get("query", query=rule["expr"])["result"]
        return found

    # An alert's expression is empty as long as nothing is wrong.
    assert finite(answer()) if "alert" not in rule else answer() is not None


@pytest.mark.parametrize(
    "title", ["Where the time goes", "Requests refused, by reason", "Errors by kind"]
)
def test_what_is_zero_in_peace_is_seen_when_it_is_not(scene: Scene, title: str) -> None:
    (panel,) = (one for one in DASHBOARD["panels"] if one["title"] == title)
    for target in panel["targets"]:
        assert eventually(lambda: max(finite(ask_scene(scene, target)), default=0) > 0), target  # noqa: B023 - called at once


def test_the_canary_stands_beside_the_stable_version(scene: Scene, models: dict[str, str]) -> None:
    (panel,) = (one for one in DASHBOARD["panels"] if one["title"] == "Each version at a glance")
    versions = {tag.partition(":")[2] for tag in (models["logistic"], models["forest"])}
    for target in panel["targets"]:
        found = {one["metric"]["model_version"] for one in ask_scene(scene, target)}
        assert found == versions, target["expr"]


def test_what_a_version_refuses_is_counted_for_it_alone(
    scene: Scene, models: dict[str, str]
) -> None:
    (panel,) = (one for one in DASHBOARD["panels"] if one["title"] == "Failed, by version")
    (target,) = panel["targets"]
    failed = {
        one["metric"]["model_version"]: max(finite([one])) for one in ask_scene(scene, target)
    }
    stable, canary = (models[kind].partition(":")[2] for kind in ("logistic", "forest"))
    assert failed[stable] == 0
    assert failed[canary] > 0


def test_whoever_is_on_call_would_be_told_of_each_alert_by_its_name(scene: Scene) -> None:
    rules = yaml.safe_load((PROVISIONING / "alerting" / "notify.yaml").read_text())["groups"][0]
    told = rules["rules"][0]["data"][0]["model"]["expr"]
    # They are pending only, as long as this test has run.
    found = scene.prometheus.get("query", query=told.replace('"firing"', '"pending"'))["result"]
    names = {one["metric"]["alert"] for one in found}
    assert "ChurnErrorBudgetBurn" in names
    assert names <= {rule["alert"] for rule in ALERTS}


def test_the_dashboard_can_be_drawn_without_grafana(scene: Scene, tmp_path: Path) -> None:
    module("matplotlib", "make bench")
    from deploy.grafana.preview import draw

    path = Path(PICTURE) if PICTURE else tmp_path / "dashboard.png"
    draw(
        scene.prometheus.url,
        path,
        start=scene.began,
        end=time.time(),
        rate_interval="15s",
        note="Invented traffic on two small servers: a stable model and a slower canary.",
    )
    assert path.read_bytes().startswith(b"\x89PNG")
