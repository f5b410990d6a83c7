"""No serving process runs code from a model's file, nor has what could read it in memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import psutil
import pytest

from tests.bad_requests import BATCH, CUSTOMER, PREDICT, PREDICT_V1
from tests.system.conftest import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import Server

TARGET = "service.py:ChurnService"
HEAVY = re.compile(r"/(sklearn|scipy|joblib|pandas|pyarrow|nacl)/")

NO_UNPICKLER = """
import _pickle, pickle, sys

def refuse(*_, **__):
    sys.stderr.write("UNPICKLED\\n")
    raise RuntimeError("something was unpickled")

class Unpickler:
    __init__ = refuse

for module in (pickle, _pickle):
    module.load = module.loads = refuse
    module.Unpickler = Unpickler
pickle._Unpickler = Unpickler
pickle._load = pickle._loads = refuse
"""


@pytest.fixture(scope="module", params=["logistic", "hist-gradient-boosting", "forest"])
def server(
    request: pytest.FixtureRequest,
    models: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("no_pickle")
    # Python runs this module at each start, before anything else.
    folder.joinpath("sitecustomize.py").write_text(NO_UNPICKLER)
    env = {"CHURN_MODEL_TAG": models[request.param], "PYTHONPATH": str(folder)}
    with serving(TARGET, folder / "log", env=env) as server:
        yield server


def test_all_routes_are_served_where_every_unpickler_raises(server: Server) -> None:
    posts = {
        PREDICT: CUSTOMER,
        PREDICT_V1: CUSTOMER,
        BATCH: {"items": [CUSTOMER] * 100},
    }
    for path, body in posts.items():
        assert httpx2.post(server.url + path, json=body).status_code == 200, path
    gets = (
        "/",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/health",
        "/health/ready",
        "/livez",
        "/readyz",
    )
    for path in (*gets, "/metrics", "/metrics/model"):
        assert httpx2.get(server.url + path).status_code == 200, path
    assert "UNPICKLED" not in server.log.read_text()


def test_an_unpickler_in_the_worker_would_be_noticed(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import pickle; pickle.loads(pickle.dumps(1))"],
        env=_processes(server)[-1].environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "UNPICKLED" in done.stderr


def test_no_process_has_a_library_for_training_in_memory(server: Server) -> None:
    processes = _processes(server)
    assert len(processes) == 2  # the supervisor and its worker
    for process in processes:
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "/numpy/" in maps
        assert not HEAVY.search(maps)


def _processes(server: Server) -> list[psutil.Process]:
    supervisor = psutil.Process(server.pid)
    return [supervisor, *supervisor.children()]
