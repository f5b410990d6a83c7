"""Real servers: ``bentoml serve`` in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import bentoml
import httpx2
import pytest
from sklearn.ensemble import RandomForestClassifier

from churn_serving.learning import training
from churn_serving.learning.candidates import CANDIDATES, SCALER, Candidate, fit
from churn_serving.learning.dataset import load_dataset
from churn_serving.learning.registration import save_artifact
from churn_serving.model.artifact import load_artifact
from tests.system.browsing import chromium
from tests.tools import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from playwright.sync_api import Browser

    from churn_serving.model.artifact import Artifact

PROJECT = Path(__file__).parents[2]
BENTOML = str(Path(sys.executable).with_name("bentoml"))
# Patience, not expectation: what takes so long never comes.
READY_SECONDS = 120
STOP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    url: str
    pid: int
    log: Path


@contextmanager
def serving(
    target: str,
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = (BENTOML,),
    cwd: Path = PROJECT,
) -> Iterator[Server]:
    """Run ``bentoml serve TARGET`` until the block ends; it must stop cleanly on SIGTERM."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "serve", target, "--port", str(port), "--host", "127.0.0.1"],
            cwd=cwd,
            env={**os.environ, "CHURN_WORKERS": "1", **(env or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process, log)
        yield Server(url, process.pid, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, log.read_text()
    finally:
        # A test that failed leaves processes of its group running, its supervisor or not.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server stopped:\n{log.read_text()}"
        try:
            if httpx2.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    pytest.fail(f"the server was not ready within {READY_SECONDS} s:\n{log.read_text()}")


@pytest.fixture(scope="session")
def models() -> dict[str, str]:
    """Register one model of each kind; return their tags."""
    dataset = load_dataset()
    tags = {}
    # A forest is walked: too slow for the event loop, it runs in the runner's thread.
    forest = Candidate("forest", RandomForestClassifier(n_estimators=300, min_samples_leaf=20))
    for candidate in (*CANDIDATES, forest):
        pipeline = fit(candidate, dataset.X, dataset.y, seed=0)
        tags[candidate.name] = save_artifact(
            estimator=pipeline,
            scaler=pipeline[SCALER],
            threshold=0.33,
            measured={},
            name=f"churn_{candidate.name.replace('-', '_')}",
            background=dataset.X[:1000],
        )
    return tags


@pytest.fixture(scope="session")
def bento_model(models: dict[str, str]) -> Artifact:
    """Register the model that ``bentofile.yaml`` names."""
    tag = models["logistic"]
    return load_artifact(
        save_artifact(
            estimator=bentoml.sklearn.load_model(tag),
            threshold=load_artifact(tag).threshold,
            measured={},
        )
    )


@pytest.fixture(scope="session")
def trained_model() -> str:
    """Train as ``make train`` does it, with fewer resamples; return the model's tag."""
    dataset = load_dataset()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "BOOTSTRAP_SAMPLES", 100)
        result = training.train(dataset)
    return save_artifact(
        estimator=result.estimator,
        threshold=result.threshold,
        measured={"data": dataset.provenance, **result.measured},
        name="churn_trained",
        background=result.background,
    )


@pytest.fixture(scope="module")
def server(trained_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of that model; a module that needs another one has its own."""
    log = tmp_path_factory.mktemp("server") / "log"
    env = {"CHURN_MODEL_TAG": trained_model}
    with serving("service.py:ChurnService", log, env=env) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with chromium() as browser:
        yield browser
