"""A real Prometheus scrapes a real server and evaluates the rules that are shipped."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
import yaml

from tests.bad_requests import BATCH, CUSTOMER, PREDICT, PREDICT_V1
from tests.system.conftest import Server, serving
from tests.system.deploy.test_alerts import PROMETHEUS
from tests.tools import free_port, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_SECONDS: Final = 120
WORKERS: Final = 2
STAYS: Final = CUSTOMER | {
    "tenure_months": 72,
    "total_charges": 5090.4,
    "contract_type": "two-year",
}

# What is sent: the route, the body, its status, and how often.
TRAFFIC: Final[list[tuple[str, dict[str, Any], int, int]]] = [
    (PREDICT, CUSTOMER, 200, 30),
    (PREDICT, {}, 422, 31),
    (PREDICT_V1, STAYS, 200, 20),
    (BATCH, {"items": [CUSTOMER] * 6 + [STAYS] * 4}, 200, 5),
    (BATCH, {"items": []}, 422, 3),
]
CHURN: Final = 30 + 5 * 6
NO_CHURN: Final = 20 + 5 * 4
SENT: Final = {(route, str(status)): times for route, _, status, times in TRAFFIC}
COUNTED: Final = (
    "sum by (route, status) (http_request_duration_seconds_count"
    '{route=~"/predict|/api/v1/predict|/api/v1/predict/batch|/api/v2/predict|/api/v2/predict/batch"})'
)


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its HTTP API."""
        answer = httpx2.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=5).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> dict[tuple[str, ...], float]:
        """Return the values of an expression now, by the values of their labels."""
        return {
            tuple(value for _, value in sorted(sample["metric"].items())): float(sample["value"][1])
            for sample in self.get("query", query=expression)["result"]
        }

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule and what has become of it."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[Prometheus]:
    """Run the shipped configuration on a target, once a second instead of four times a minute."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    config["global"] |= dict.fromkeys(
        ("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s"
    )
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    rules = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())
    for group in rules["groups"]:
        group.pop("interval", None)
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        prometheus = Prometheus(f"http://{address}")
        eventually(lambda: is_ready(prometheus, process, folder / "log"))
        yield prometheus
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_ready(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, f"Prometheus stopped:\n{log.read_text()}"
    try:
        return httpx2.get(f"{prometheus.url}/-/ready", timeout=5).status_code == 200
    except httpx2.TransportError:
        return False


def eventually(condition: Callable[[], bool]) -> bool:
    """Return whether a condition comes true before long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False


def send(server: Server, *, once: bool) -> None:
    """Send the first request of each kind, or all others."""
    for route, body, status, times in TRAFFIC:
        # A new connection each time, so that both workers get their share.
        for _ in range(1 if once else times - 1):
            assert httpx2.post(server.url + route, json=body).status_code == status


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    """Without Prometheus, there is no use in training models and starting servers."""
    tool("prometheus")


@pytest.fixture(scope="module")
def server(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"CHURN_MODEL_TAG": models["logistic"], "CHURN_WORKERS": str(WORKERS)}
    with serving("service.py:ChurnService", tmp_path_factory.mktemp("serve") / "log", env=env) as s:
        yield s


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen all of the traffic."""
    target = server.url.removeprefix("http://")
    with scraping(target, tmp_path_factory.mktemp("prometheus")) as prometheus:
        assert eventually(lambda: prometheus.query("sum(ml_workers_ready)") == {(): WORKERS})
        # To Prometheus a counter has not grown to its first value: it must see one of each first.
        send(server, once=True)
        assert eventually(lambda: prometheus.query(COUNTED).keys() == SENT.keys())
        send(server, once=False)
        assert eventually(lambda: prometheus.query(f"sum({COUNTED})") == {(): sum(SENT.values())})
        yield prometheus


def test_the_target_is_up_and_its_workers_are_ready(prometheus: Prometheus) -> None:
    assert prometheus.query("sum by (job) (up)") == {("churn-serving",): 1}
    for gauge in ("ml_workers", "ml_workers_live", "ml_workers_ready"):
        assert prometheus.query(f"sum({gauge})") == {(): WORKERS}


def test_requests_are_counted_by_route_and_status(prometheus: Prometheus) -> None:
    assert prometheus.query(COUNTED) == SENT


def test_predictions_are_counted_by_outcome(prometheus: Prometheus) -> None:
    counted = prometheus.query("sum by (outcome) (ml_predictions_total)")
    assert counted == {("churn",): CHURN, ("no_churn",): NO_CHURN}


def test_calls_of_the_model_are_counted_with_their_rows(prometheus: Prometheus) -> None:
    assert prometheus.query("sum(ml_inference_duration_seconds_count)") == {(): 30 + 20 + 5}
    assert prometheus.query("sum(ml_batch_size_sum)") == {(): CHURN + NO_CHURN}
    assert prometheus.query('sum(ml_batch_size_bucket{le="1.0"})') == {(): 30 + 20}


def test_errors_are_counted_by_their_class(prometheus: Prometheus) -> None:
    counted = prometheus.query("sum by (endpoint, error_type) (ml_errors_total)")
    assert counted == {
        (PREDICT, "ValidationFailedError"): 31,
        (BATCH, "ValidationFailedError"): 3,
    }


def test_the_memory_is_that_of_all_workers(prometheus: Prometheus) -> None:
    (memory,) = prometheus.query("sum(process_resident_memory_bytes)").values()
    assert memory > WORKERS * 50e6


def test_the_rolling_churn_rate_is_that_of_the_predictions(prometheus: Prometheus) -> None:
    (rate,) = prometheus.query("ml_churn_rate_rolling").values()
    assert rate == pytest.approx(CHURN / (CHURN + NO_CHURN))


def test_every_rule_evaluates_without_an_error(prometheus: Prometheus) -> None:
    assert eventually(lambda: all(rule["health"] != "unknown" for rule in prometheus.rules()))
    rules = prometheus.rules()
    assert len(rules) > 40
    assert [rule for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []


def test_the_objective_is_about_valid_requests(prometheus: Prometheus) -> None:
    valid = sum(times - 1 for _, _, status, times in TRAFFIC if status == 200)
    # Prometheus extrapolates a little; with the invalid requests it would be more than half as many
    # again.
    grown = "job:prediction_requests:rate5m * 300"
    assert eventually(lambda: valid <= prometheus.query(grown)["churn-serving",] < 1.3 * valid)
    ratio = prometheus.query("job:prediction_failures_per_requests:ratio_rate5m")
    assert ratio == {("job:prediction_failures_per_requests:ratio_rate5m", "churn-serving"): 0}


def test_nothing_fires_on_a_healthy_service(prometheus: Prometheus) -> None:
    assert prometheus.query('ALERTS{alertstate="firing"}') == {}


def test_promtool_finds_nothing_wrong_with_the_metrics(server: Server) -> None:
    exposition = httpx2.get(f"{server.url}/metrics").text
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        input=exposition,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_server_that_is_not_there_is_noticed(tmp_path: Path) -> None:
    with scraping(f"127.0.0.1:{free_port()}", tmp_path) as prometheus:
        alerts = "count by (alertname) (ALERTS)"
        assert eventually(lambda: prometheus.query(alerts) == {("ChurnServingDown",): 1})
