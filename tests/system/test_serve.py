"""A real ``bentoml serve``, as users run it."""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
import httpx2
import psutil
import pytest

from churn_serving import cli
from churn_serving.features.rows import customer_row, feature_matrix
from churn_serving.learning.registration import save_artifact
from churn_serving.schema import Customer
from tests.bad_requests import (
    BATCH,
    CUSTOMER,
    PREDICT,
    PREDICT_BATCH_V2,
    PREDICT_V1,
    PREDICT_V2,
)
from tests.system.conftest import BENTOML, PROJECT, READY_SECONDS, Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = "service.py:ChurnService"
CUSTOMERS = [
    CUSTOMER | {"tenure_months": index % 121, "total_charges": 100.0 + index}
    for index in range(500)
]


@pytest.fixture(
    scope="module",
    params=[
        ("logistic", {"CHURN_WORKERS": "2"}),
        ("hist-gradient-boosting", {}),
        ("logistic", {"CHURN_TOPOLOGY": "split", "CHURN_WORKERS": "2"}),
        ("forest", {}),
    ],
    ids=["two workers", "boosting", "split", "runner in a thread"],
)
def setup(
    request: pytest.FixtureRequest, models: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, str]]:
    """A server in each of the ways it can be set up, and its model's tag."""
    kind, env = request.param
    log = tmp_path_factory.mktemp("serve") / "log"
    with serving(TARGET, log, env={"CHURN_MODEL_TAG": models[kind], **env}) as server:
        yield server, models[kind]


def expected(tag: str, customers: list[dict[str, Any]]) -> list[float]:
    """What scikit-learn itself says."""
    X = feature_matrix(customer_row(Customer.model_validate(customer)) for customer in customers)
    churn: list[float] = bentoml.sklearn.load_model(tag).predict_proba(X)[:, 1].tolist()
    return churn


def test_concurrent_callers_get_their_own_answers(setup: tuple[Server, str]) -> None:
    server, tag = setup
    assert ("in a thread" in server.log.read_text()) == ("forest" in tag)
    with httpx2.Client(base_url=server.url) as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda c: client.post(PREDICT_V1, json=c), CUSTOMERS))
    assert {answer.status_code for answer in answers} == {200}
    churn = [answer.json()["probability"]["churn"] for answer in answers]
    assert churn == pytest.approx(expected(tag, CUSTOMERS), abs=1e-9)


def test_batches_get_their_own_answers(setup: tuple[Server, str]) -> None:
    server, tag = setup
    batches = [CUSTOMERS[start : start + 100] for start in range(0, len(CUSTOMERS), 100)]
    with httpx2.Client(base_url=server.url) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda b: client.post(BATCH, json={"items": b}), batches))
    assert {answer.status_code for answer in answers} == {200}
    churn = [
        result["probability"]["churn"] for answer in answers for result in answer.json()["results"]
    ]
    assert churn == pytest.approx(expected(tag, CUSTOMERS), abs=1e-9)


def test_no_answer_says_whose_software_this_is(setup: tuple[Server, str]) -> None:
    server, _ = setup
    with httpx2.Client(base_url=server.url) as client:
        answers = [
            client.post(PREDICT, json=CUSTOMER),
            client.post(PREDICT, json={}),
            *(client.get(path) for path in ("/health", "/livez", "/docs", "/metrics", "/nowhere")),
        ]
    assert [answer.status_code for answer in answers] == [200, 422, 200, 200, 200, 200, 404]
    for answer in answers:
        assert "server" not in answer.headers
        assert answer.headers["x-request-id"]


def test_bentoml_client_predicts(setup: tuple[Server, str]) -> None:
    server, tag = setup
    with bentoml.SyncHTTPClient(server.url) as client:
        answer = client.predict(CUSTOMER)
    assert answer["churn_probability"] == pytest.approx(expected(tag, [CUSTOMER])[0], abs=1e-9)
    assert answer["model_tag"] == tag


def test_a_worker_that_is_started_again_serves_the_same_model(
    models: dict[str, str], tmp_path: Path
) -> None:
    pipeline = bentoml.sklearn.load_model(models["logistic"])

    def register() -> str:
        return save_artifact(estimator=pipeline, threshold=0.33, measured={}, name="churn_pinned")

    def wait_for_starts(server: Server, count: int) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while server.log.read_text().count("Completed async startup hook") < count:
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.1)

    def workers(server: Server) -> list[psutil.Process]:
        return [
            child
            for child in psutil.Process(server.pid).children()
            if "_bentoml_impl.worker.service" in child.cmdline()
        ]

    served = register()
    env = {"CHURN_MODEL_TAG": "churn_pinned:latest", "CHURN_WORKERS": "2"}
    with serving(TARGET, tmp_path / "log", env=env) as server:
        assert register() != served
        wait_for_starts(server, 2)
        workers(server)[0].kill()
        wait_for_starts(server, 3)
        assert len(workers(server)) == 2
        # A new connection each time, so that both workers get their share.
        tags = {
            httpx2.post(server.url + PREDICT, json=CUSTOMER).json()["model_tag"] for _ in range(40)
        }
    assert tags == {served}


def test_a_reload_with_a_model_that_cannot_be_loaded_leaves_the_old_one(
    models: dict[str, str], tmp_path: Path
) -> None:
    pipeline = bentoml.sklearn.load_model(models["logistic"])

    def register() -> str:
        return save_artifact(estimator=pipeline, threshold=0.33, measured={}, name="churn_reloaded")

    def wait_for_line(server: Server, text: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while text not in server.log.read_text():
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.1)

    def answering(server: Server) -> str:
        tag: str = httpx2.post(server.url + PREDICT, json=CUSTOMER).json()["model_tag"]
        return tag

    served = register()
    env = {"CHURN_MODEL_TAG": "churn_reloaded"}
    with serving(TARGET, tmp_path / "log", env=env) as server:
        Path(bentoml.models.get(register()).path, "portable.npz").write_bytes(b"damaged")
        os.kill(server.pid, signal.SIGHUP)
        wait_for_line(server, "Reload: 0 of 1 workers replaced")
        assert answering(server) == served
        newest = register()
        os.kill(server.pid, signal.SIGHUP)
        wait_for_line(server, "Reload: done")
        assert answering(server) == newest
        # A champion is served, whatever is registered after it.
        assert cli.main(["model", "promote", served]) == 0
        assert register() != served
        os.kill(server.pid, signal.SIGHUP)
        wait_for_line(server, f"Reload: done, {served} is served by all workers")
        assert answering(server) == served
        # ``serving`` ends it in the middle of the next one, and waits for that.
        os.kill(server.pid, signal.SIGHUP)


def serve_and_fail(*options: str, port: int = 0, **env: str) -> str:
    """Return what a start that must fail prints."""
    completed = subprocess.run(
        [BENTOML, "serve", TARGET, "--port", str(port), *options],
        cwd=PROJECT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )
    assert completed.returncode != 0
    return completed.stderr


def test_a_start_without_a_model_says_which_command_to_run(tmp_path: Path) -> None:
    message = serve_and_fail(BENTOML_HOME=str(tmp_path))
    assert "no model 'churn_classifier'" in message
    assert "python train_and_save.py" in message
    assert "Traceback" not in message


def test_a_start_with_a_damaged_model_says_so(models: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(Path(os.environ["BENTOML_HOME"], "models"), home / "models")
    name, _, version = models["logistic"].partition(":")
    home.joinpath("models", name, version, "portable.npz").write_bytes(b"damaged")
    message = serve_and_fail(CHURN_MODEL_TAG=models["logistic"], BENTOML_HOME=str(home))
    assert "portable.npz" in message
    assert "python train_and_save.py" in message
    assert "Traceback" not in message


def test_a_start_with_an_impossible_setting_names_it() -> None:
    message = serve_and_fail(CHURN_WORKERS="-1")
    assert "CHURN_WORKERS" in message
    assert "Traceback" not in message


def test_a_start_on_a_taken_port_says_so(models: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        message = serve_and_fail(
            "--host", "127.0.0.1", port=taken.getsockname()[1], CHURN_MODEL_TAG=models["logistic"]
        )
    assert "The port is taken" in message
    assert "--port" in message
    assert "Traceback" not in message


def test_decisions_and_reasons_agree_with_the_probability(setup: tuple[Server, str]) -> None:
    server, tag = setup
    few = CUSTOMERS[:20]
    items = [{"customer_id": number, "customer": one} for number, one in enumerate(few)]
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        batch = client.post(PREDICT_BATCH_V2, json={"items": items, "capacity": 5}).json()
        alone = [client.post(PREDICT_V2, json=item).json() for item in items[:5]]
    churn = expected(tag, few)
    for answer, probability in zip([*batch["results"], *alone], churn + churn[:5], strict=True):
        assert answer["churn_probability"] == pytest.approx(probability, abs=1e-9)
        # Those of a forest take long: only who asks for them, or is alone, is told.
        if "forest" in tag and answer not in alone:
            assert answer["reasons"] is None
            continue
        total = answer["baseline"] + sum(reason["impact"] for reason in answer["reasons"])
        clipped = min(max(probability, 1e-6), 1 - 1e-6)
        assert 1 / (1 + math.exp(-total)) == pytest.approx(clipped, abs=1e-9)
    for answer, one in zip(batch["results"], alone, strict=False):
        assert answer["decision"]["action"] == one["decision"]["action"]
    assert len(batch["ranking"]) == 5
