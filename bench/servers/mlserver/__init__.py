"""MLServer with its scikit-learn runtime, asked in the Open Inference Protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.servers.server import Launch, Route, Server, row, tensor

if TYPE_CHECKING:
    from bench.servers.server import Site

__all__ = ["SERVERS"]

_MODEL: Final = "churn"
_MAX_BATCH_SIZE: Final = 32
# uvloop's timers count whole milliseconds and this one rounds to none: a batch is what has arrived.
# With 32 connections and with one, logistic regression, in requests a second:
#
#     no batching    1400  1190
#     0.5 ms         2860   840
#     1 ms           2740   450
#     2 ms           3050   310
#     5 ms           3020   140
_MAX_BATCH_SECONDS: Final = 0.0005


def _prepare(site: Site) -> None:
    server = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": site.port,
        "grpc_port": site.spare_ports[0],
        "metrics_endpoint": None,
        "gzip_enabled": False,
        # In the server's own process, where it is faster; a worker does not start with uvloop 0.22
        # or newer (MLServer's issue 2286).
        "parallel_workers": 0,
    }
    model = {
        "name": _MODEL,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "max_batch_size": _MAX_BATCH_SIZE,
        "max_batch_time": _MAX_BATCH_SECONDS,
        "parameters": {"uri": str(site.pipeline), "extra": {"predict_fn": "predict_proba"}},
    }
    folder = site.folder / _MODEL
    folder.mkdir()
    (site.folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))


def _launch(site: Site) -> Launch:
    command = site.python.with_name("mlserver")
    # It takes settings from a .env file where it is started, too.
    return Launch((str(command), "start", str(site.folder)), folder=site.folder)


SERVERS: Final = (
    Server(
        name="mlserver",
        title="MLServer",
        folder=Path(__file__).parent,
        needs=("mlserver",),
        routes=(
            Route(
                "predict",
                f"/v2/models/{_MODEL}/infer",
                lambda customers: tensor("X", row(customers[0])),
                lambda answer: [answer["outputs"][0]["data"][1]],
            ),
        ),
        launch=_launch,
        prepare=_prepare,
        batching="timer",
        how="scikit-learn's pipeline in the server's process, uvloop, httptools; batches of "
        "up to 32, waiting less than 1 ms; no metrics, no compression, no access log",
    ),
)
