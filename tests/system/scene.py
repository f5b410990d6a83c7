"""Something for the dashboard to show: a stable server, a canary, callers, and a Prometheus."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
import psutil
import yaml

from tests.bad_requests import BATCH, CUSTOMER, PREDICT, PREDICT_V1, PREDICT_V2
from tests.system.conftest import Server, serving
from tests.system.test_prometheus import Prometheus, eventually, scraping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Scene", "play", "staged"]

WORKERS: Final = 2
CANARY_WORKERS: Final = 1
CANARY_SHARE: Final = 0.2
CALLERS: Final = 8
CROWD: Final = 40
RATE: Final = 40
PIECES: Final = 16
CROWDED: Final = range(9, 13)


@dataclass(frozen=True, slots=True)
class Scene:
    """Two versions of the model, watched by one Prometheus.

    Attributes:
        stable: Has a model that is called at once.
        canary: Has a slower one, for which requests queue; and places for few of them.
        prometheus: Scrapes both each second.
        began: When it saw both, Unix time.
    """

    stable: Server
    canary: Server
    prometheus: Prometheus
    began: float


@contextmanager
def staged(models: Mapping[str, str], folder: Path) -> Iterator[Scene]:
    """Run all of it until the block ends.

    Args:
        models: The tags of registered models by kind.
        folder: An empty one.
    """
    service = "service.py:ChurnService"
    # BentoML empties its metrics folder at each start: servers that run at once need one each.
    home = folder / "canary"
    shutil.copytree(Path(os.environ["BENTOML_HOME"], "models"), home / "models")
    stable_env = {"CHURN_MODEL_TAG": models["logistic"], "CHURN_WORKERS": str(WORKERS)}
    canary_env = {
        "BENTOML_HOME": str(home),
        "CHURN_MODEL_TAG": models["forest"],
        "CHURN_WORKERS": str(CANARY_WORKERS),
        "CHURN_QUEUE_SIZE": "100",
    }
    with (
        serving(service, folder / "stable.log", env=stable_env) as stable,
        serving(service, folder / "canary.log", env=canary_env) as canary,
        scraping(_address(stable), folder) as prometheus,
    ):
        _scrape_also(_address(canary), folder)
        ready = {(): WORKERS + CANARY_WORKERS}
        assert eventually(lambda: prometheus.query("sum(ml_workers_ready)") == ready)
        yield Scene(stable, canary, prometheus, time.time())


def _address(server: Server) -> str:
    return server.url.removeprefix("http://")


def _scrape_also(address: str, folder: Path) -> None:
    """Add a target as an operator would: to the configuration, which is then read again."""
    path = folder / "prometheus.yaml"
    config = yaml.safe_load(path.read_text())
    config["scrape_configs"][0]["static_configs"][0]["targets"].append(address)
    path.write_text(yaml.safe_dump(config))
    for child in psutil.Process().children():
        if f"--config.file={path}" in child.cmdline():
            child.send_signal(signal.SIGHUP)


def play(scene: Scene, *, seconds: float) -> None:
    """Send all kinds of requests to both servers, and the canary too many for a while.

    Each kind comes several times: to Prometheus, a counter's first value is no increase.
    """
    chance = random.Random(0)  # noqa: S311 - nothing secret
    with httpx2.Client(timeout=10) as client, ThreadPoolExecutor(CALLERS) as pool:
        for piece in range(PIECES):
            rate = RATE * (1 + 0.5 * math.sin(2 * math.pi * piece / PIECES))
            end = time.monotonic() + seconds / PIECES
            while time.monotonic() < end:
                server = scene.canary if chance.random() < CANARY_SHARE else scene.stable
                pool.submit(_send, client, server.url, *_request(chance))
                time.sleep(chance.expovariate(rate))
            if piece in CROWDED:
                full = {"items": [_customer(chance) for _ in range(100)]}
                for _ in range(CROWD):
                    pool.submit(_send, client, scene.canary.url, BATCH, full)


def _send(client: httpx2.Client, url: str, route: str, body: dict[str, Any]) -> None:
    # What comes back is Prometheus's to tell; a server may be stopping already.
    with suppress(httpx2.TransportError):
        client.post(url + route, json=body)


def _request(chance: random.Random) -> tuple[str, dict[str, Any]]:
    """Return a route and a body: mostly single customers, some batches, some mistakes."""
    kind = chance.random()
    if kind < 0.03:
        return PREDICT, {}
    if kind < 0.04:
        return "/nowhere", {}
    if kind < 0.4:
        return PREDICT, _customer(chance)
    if kind < 0.7:
        return PREDICT_V1, _customer(chance)
    if kind < 0.85:
        return PREDICT_V2, {"customer": _customer(chance)}
    return BATCH, {"items": [_customer(chance) for _ in range(chance.randint(1, 100))]}


def _customer(chance: random.Random) -> dict[str, Any]:
    tenure = chance.randint(0, 72)
    charges = round(chance.uniform(20, 120), 2)
    return CUSTOMER | {
        "tenure_months": tenure,
        "monthly_charges": charges,
        "total_charges": round(charges * max(tenure, 1), 2),
        "contract_type": chance.choice(["month-to-month", "one-year", "two-year"]),
        "payment_method": chance.choice(["electronic", "mailed", "bank", "credit"]),
    }
