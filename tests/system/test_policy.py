"""The policy file, from the environment to the answers."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import httpx2
import psutil
import pytest

from churn_serving.model.policy import read_policy
from tests.bad_requests import CUSTOMER, PREDICT_BATCH_V2, PREDICT_V2
from tests.system.conftest import READY_SECONDS, Server, serving
from tests.system.test_serve import TARGET, serve_and_fail

if TYPE_CHECKING:
    from pathlib import Path


def answer(server: Server, **fields: Any) -> dict[str, Any]:
    # A new connection each time, so that each worker gets its share.
    found: dict[str, Any] = httpx2.post(
        server.url + PREDICT_V2, json={"customer": CUSTOMER, **fields}
    ).json()
    return found


def wait_for(server: Server, line: str, times: int = 1) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while server.log.read_text().count(line) < times:
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.1)


def test_a_changed_file_is_read_at_a_reload_and_by_all_workers_alike(
    models: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("offer_cost = 20\n")
    old = read_policy(file).version
    env = {"CHURN_MODEL_TAG": models["logistic"], "CHURN_POLICY_FILE": str(file)}
    with serving(TARGET, tmp_path / "log", env=env | {"CHURN_WORKERS": "2"}) as server:
        wait_for(server, "Completed async startup hook", times=2)
        told = httpx2.get(f"{server.url}/api/v2/policy").json()
        assert told["policy"]["offer_cost"] == 20
        assert told["policy_version"] == old
        file.write_text("offer_cost = 30\n")
        new = read_policy(file).version
        workers = [
            child
            for child in psutil.Process(server.pid).children()
            if "_bentoml_impl.worker.service" in child.cmdline()
        ]
        workers[0].kill()
        wait_for(server, "Completed async startup hook", times=3)
        assert {answer(server)["policy_version"] for _ in range(20)} == {old}
        os.kill(server.pid, signal.SIGHUP)
        wait_for(server, "Reload: done")
        assert {answer(server)["policy_version"] for _ in range(20)} == {new}
        file.write_text("offer_cost = -1\n")
        os.kill(server.pid, signal.SIGHUP)
        wait_for(server, "Reload: 0 of 2 workers replaced: The policy file")
        assert {answer(server)["policy_version"] for _ in range(20)} == {new}


def test_a_control_group_is_kept_apart_by_the_customers_id(
    models: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "policy.json"
    file.write_text('{"control_share": 0.2, "control_salt": "autumn"}')
    env = {"CHURN_MODEL_TAG": models["logistic"], "CHURN_POLICY_FILE": str(file)}
    with serving(TARGET, tmp_path / "log", env=env) as server:
        items = [{"customer_id": number, "customer": CUSTOMER} for number in range(1000)]
        batch = httpx2.post(server.url + PREDICT_BATCH_V2, json={"items": items}).json()
        actions = [result["decision"]["action"] for result in batch["results"]]
        alone = [answer(server, customer_id=number)["decision"]["action"] for number in range(30)]
        assert "autumn" not in httpx2.get(f"{server.url}/api/v2/policy").text
    assert set(actions) == {"contact", "control"}
    assert actions.count("control") == pytest.approx(200, abs=4 * 13)
    assert actions[:30] == alone
    assert not {n for n, action in enumerate(actions) if action == "control"} & set(
        batch["ranking"]
    )
    assert batch["totals"]["control"] == actions.count("control")


def test_a_start_with_a_policy_that_contradicts_itself_says_so(
    models: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("offer_cost = 300\n")
    message = serve_and_fail(CHURN_MODEL_TAG=models["logistic"], CHURN_POLICY_FILE=str(file))
    assert "offer_cost must be below customer_value" in message
    assert "Traceback" not in message
