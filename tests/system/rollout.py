"""Replace one generation of the service by the next behind a real proxy, and count what fails.

``make rollout`` runs this. The proxy is HAProxy, which plays the gateway: it asks each generation
for readiness as often as the Kubernetes manifests say, and the generations drain as long as the
manifests' settings say. No request is tried twice, so each one that fails is seen.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from rich.console import Console

from tests.system.chaos.client import ASK_READY, Callers, ask
from tests.system.chaos.model import register_models
from tests.system.chaos.report import ChaosError
from tests.system.chaos.server import wait_for
from tests.system.chaos.stage import Stage
from tests.tools import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Split", "Update", "canary", "rolling_update"]

KUBERNETES: Final = Path(__file__).parents[2] / "deploy" / "kubernetes"
CALLERS: Final = 32
TOLERANCE: Final = 0.01
CANARY_REQUESTS: Final = 10_000
BEFORE_AND_AFTER_SECONDS: Final = 2.0
OLD: Final = "old"
NEW: Final = "new"
OK: Final = 200
FOUND_SECONDS: Final = 30.0

console = Console(soft_wrap=True)

_CONFIGURATION: Final = """
global
    maxconn 1000
    stats socket {folder}/control level admin
defaults
    mode http
    retries 0
    timeout connect 2s
    timeout client 60s
    timeout server 60s
frontend gateway
    bind 127.0.0.1:{port}
    default_backend churn
backend churn
    balance roundrobin
    option httpchk GET /health/ready
    http-check expect status 200
    default-server check inter {period}s fall {failures} rise 1
    server old 127.0.0.1:{old} weight {old_weight}
    server new 127.0.0.1:1 weight {new_weight} disabled
"""


@dataclass(frozen=True, slots=True)
class Manifests:
    """What the manifests say about probes, draining and weights."""

    settings: Mapping[str, Any]
    probe_seconds: int
    probe_failures: int
    ready_seconds: int
    weights: tuple[int, int]

    @classmethod
    def read(cls) -> Manifests:
        """Read them."""
        deployment = _yaml("base/deployment.yaml")
        readiness = deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
        lines = (KUBERNETES / "base" / "settings.env").read_text(encoding="utf-8").splitlines()
        settings = dict(line.split("=", 1) for line in lines if line.startswith("CHURN_"))
        stable, canary = _yaml("overlays/canary/weights.yaml")[0]["value"]
        return cls(
            {name.removeprefix("CHURN_").lower(): value for name, value in settings.items()},
            readiness["periodSeconds"],
            readiness["failureThreshold"],
            deployment["spec"]["minReadySeconds"],
            (stable["weight"], canary["weight"]),
        )


@dataclass(frozen=True, slots=True)
class Update:
    """What became of the requests while one generation was replaced by the other."""

    answered: Mapping[int, int]
    lost: int
    by_old: int
    by_new: int
    drained_seconds: float

    @property
    def failed(self) -> int:
        """Requests that were lost, or answered with anything but 200."""
        return self.lost + sum(count for status, count in self.answered.items() if status != OK)


@dataclass(frozen=True, slots=True)
class Split:
    """How many requests went where."""

    stable: int
    canary: int
    failed: int

    @property
    def share(self) -> float:
        """The canary's share."""
        return self.canary / (self.stable + self.canary)


def rolling_update(folder: Path, models: Mapping[str, str], say: Callable[[str], None]) -> Update:
    """Replace a generation by the next, under load."""
    manifests = Manifests.read()
    old, new = (_stage(folder / name, models, say) for name in (OLD, NEW))
    with (
        old.serve(**manifests.settings) as leaving,
        _proxied(folder, manifests, leaving.port) as proxy,
        Callers(proxy.port, [0.0] * CALLERS) as callers,
    ):
        say("the old generation serves")
        time.sleep(BEFORE_AND_AFTER_SECONDS)
        with new.serve(**manifests.settings) as coming:
            proxy.add_new(coming.port)
            time.sleep(manifests.ready_seconds)
            say("both serve; the old generation is told to stop")
            start = time.monotonic()
            if leaving.stop() != 0:
                raise ChaosError("The old generation did not stop cleanly.")
            drained = time.monotonic() - start
            say("the new generation serves")
            time.sleep(BEFORE_AND_AFTER_SECONDS)
            callers.stop()
            served = proxy.served()
    return Update(dict(callers.statuses), len(callers.lost), served[OLD], served[NEW], drained)


def canary(folder: Path, models: Mapping[str, str], say: Callable[[str], None]) -> Split:
    """Send requests to a stable generation and a canary, by the manifests' weights."""
    manifests = Manifests.read()
    stable, new = (_stage(folder / name, models, say) for name in (OLD, NEW))
    # Nobody is waiting for these to be told that they stop.
    settings: dict[str, Any] = {**manifests.settings, "drain_delay_seconds": "0"}
    with (
        stable.serve(**settings) as server,
        _proxied(folder, manifests, server.port, weights=manifests.weights) as proxy,
        new.serve(**settings) as coming,
    ):
        proxy.add_new(coming.port)
        say(f"{CANARY_REQUESTS:,} requests, {manifests.weights[1]} % of them for the canary")
        before = proxy.served()
        with Callers(proxy.port, [0.0] * CALLERS, limit=CANARY_REQUESTS) as callers:
            callers.finish()
        served = proxy.served()
    failed = len(callers.lost) + sum(n for code, n in callers.statuses.items() if code != OK)
    return Split(served[OLD] - before[OLD], served[NEW] - before[NEW], failed)


@dataclass(frozen=True, slots=True)
class _Proxy:
    """A running HAProxy."""

    port: int
    control: Path

    def add_new(self, port: int) -> None:
        """Tell it where the new generation is, and wait until that has been found ready."""
        self._command(f"set server churn/{NEW} addr 127.0.0.1 port {port}")
        self._command(f"enable server churn/{NEW}")
        if wait_for(lambda: self._state(NEW)["status"] == "UP", FOUND_SECONDS) is None:
            raise ChaosError("The proxy did not find the new generation ready.")

    def served(self) -> dict[str, int]:
        """Return how many answers with 2xx each generation has given."""
        return {name: int(self._state(name)["hrsp_2xx"]) for name in (OLD, NEW)}

    def _state(self, name: str) -> dict[str, str]:
        rows = csv.DictReader(self._command("show stat").removeprefix("# ").splitlines())
        return next(row for row in rows if (row["pxname"], row["svname"]) == ("churn", name))

    def _command(self, text: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.control))
            connection.sendall(f"{text}\n".encode())
            with connection.makefile("r") as answer:
                return answer.read()


@contextmanager
def _proxied(
    folder: Path, manifests: Manifests, old_port: int, *, weights: tuple[int, int] = (1, 1)
) -> Iterator[_Proxy]:
    """Run HAProxy before the old generation until the block ends."""
    haproxy = shutil.which("haproxy")
    if haproxy is None:
        raise ChaosError("HAProxy is missing; on Debian: apt install haproxy")
    port = free_port()
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        _CONFIGURATION.format(
            folder=folder,
            port=port,
            old=old_port,
            old_weight=weights[0],
            new_weight=weights[1],
            period=manifests.probe_seconds,
            failures=manifests.probe_failures,
        ),
        encoding="utf-8",
    )
    proxy = _Proxy(port, folder / "control")
    process = subprocess.Popen([haproxy, "-q", "-db", "-f", str(configuration)])
    try:
        if wait_for(lambda: ask(port, ASK_READY).status == OK, FOUND_SECONDS) is None:
            raise ChaosError("HAProxy does not answer.")
        yield proxy
    finally:
        process.terminate()
        process.wait()


def _stage(folder: Path, models: Mapping[str, str], say: Callable[[str], None]) -> Stage:
    # Each generation has a model store of its own, as each pod has.
    folder.mkdir()
    return Stage(folder=folder, models=models, quick=True, say=say)


def _yaml(path: str) -> Any:
    return yaml.safe_load((KUBERNETES / path).read_text(encoding="utf-8"))


def main() -> int:
    """Run the command line."""
    argparse.ArgumentParser(prog="make rollout", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["BENTOML_HOME"] = home
        models = register_models()
        with tempfile.TemporaryDirectory() as folder:
            update = rolling_update(Path(folder), models, console.print)
        with tempfile.TemporaryDirectory() as folder:
            split = canary(Path(folder), models, console.print)
    console.print(
        f"rolling update: {update.by_old + update.by_new:,} requests, {update.by_old:,} by the old "
        f"generation and {update.by_new:,} by the new; {update.failed} failed; the old one drained "
        f"for {update.drained_seconds:.1f} s"
    )
    console.print(
        f"canary: {split.canary:,} of {split.stable + split.canary:,} requests, "
        f"{split.share:.2%}; {split.failed} failed"
    )
    off = abs(split.share - Manifests.read().weights[1] / 100) > TOLERANCE
    return 1 if update.failed or split.failed or off else 0


if __name__ == "__main__":
    raise SystemExit(main())
