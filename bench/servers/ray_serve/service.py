"""Runs Ray and Ray Serve with the model in the foreground, until SIGTERM.

python service.py SCORER FOLDER PORT
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import cloudpickle
import numpy as np
import ray
from ray import serve

from bench.servers.rows import row

if TYPE_CHECKING:
    from starlette.requests import Request

LOGGING = {"log_level": "WARNING", "enable_access_log": False}
OBJECT_STORE_BYTES = 80 * 10**6  # near the least that Ray takes; requests do not pass through it
HAPROXY_FILES = {
    "SERVER_STATE_BASE": ".",
    "SERVER_STATE_FILE": "server-state",
    "CONFIG_FILE_LOC": "haproxy.cfg",
    "SOCKET_PATH": "admin.sock",
}


# By default a replica takes five requests at a time, and the proxy asks again and again whether it
# takes more: 14 requests a second on one core with 32 connections instead of 190.
@serve.deployment(max_ongoing_requests=1000, logging_config=LOGGING)
class Churn:
    """Estimates how likely customers are to leave."""

    def __init__(self, scorer: str) -> None:
        self.scorer = cloudpickle.loads(Path(scorer).read_bytes())

    # What has come in meanwhile is the next batch: with the default of 10 ms a single connection
    # waits for them in vain, and 32 connections gain nothing.
    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0)
    async def churns(self, rows: list[list[float]]) -> list[float]:
        """Return the churn probabilities of the rows."""
        churns: list[float] = self.scorer.score(np.array(rows)).tolist()
        return churns

    async def __call__(self, request: Request) -> dict[str, float]:
        """Predict whether one customer will leave."""
        return {"churn_probability": await self.churns(row(await request.json()))}


def main(scorer: str, folder: str, port: str) -> None:
    """Serve until SIGTERM."""
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="ray-") as short:
        # Ray makes sockets in its folder, and a socket's path has at most 107 characters.
        link = Path(short, "to")
        link.symlink_to(folder)
        for name, file in HAPROXY_FILES.items():
            os.environ[f"RAY_SERVE_HAPROXY_{name}"] = str(link / file)
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level="warning",
            _temp_dir=str(link),
        )
        # After Ray, which sets a handler of its own.
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        serve.start(http_options={"host": "127.0.0.1", "port": int(port)}, logging_config=LOGGING)
        serve.run(Churn.bind(scorer), route_prefix="/predict")
        stop.wait()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
