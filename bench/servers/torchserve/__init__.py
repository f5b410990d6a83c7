"""TorchServe with a handler of one's own."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.servers.server import PREDICT, Launch, Server, Tool

if TYPE_CHECKING:
    from bench.servers.server import Site

__all__ = ["SERVERS"]

_FOLDER: Final = Path(__file__).parent


def _prepare(site: Site) -> None:
    store = site.folder / "store"
    store.mkdir()
    subprocess.run(
        (
            str(site.python.with_name("torch-model-archiver")),
            *("--model-name=churn", "--version=1.0", "--archive-format=no-archive"),
            f"--handler={_FOLDER / 'handler.py'}",
            f"--config-file={_FOLDER / 'model-config.yaml'}",
            f"--extra-files={site.scorer}",
            f"--export-path={store}",
        ),
        check=True,
    )
    metrics, *grpc = site.spare_ports
    (site.folder / "config.properties").write_text(f"""\
model_store={store}
load_models=churn
inference_address=http://127.0.0.1:{site.port}
management_address=http://127.0.0.1:{site.port}
metrics_address=http://127.0.0.1:{metrics}
grpc_inference_port={grpc[0]}
grpc_management_port={grpc[1]}
metrics_mode=prometheus
disable_token_authorization=true
""")


def _launch(site: Site) -> Launch:
    packages = site.packages
    return Launch(
        # What `torchserve --foreground` starts; but that would leave the server behind on SIGTERM.
        (
            "java",
            f"-Dmodel_server_home={packages}",
            f"-Djava.io.tmpdir={site.folder}",
            f"-Dlog4j.configurationFile=file://{_FOLDER / 'log4j2.xml'}",
            *("-cp", f"{packages / 'ts' / 'frontend'}/*", "org.pytorch.serve.ModelServer"),
            *("--python", str(site.python), "-f", str(site.folder / "config.properties"), "-ncs"),
        ),
        folder=site.folder,
    )


SERVERS: Final = (
    Server(
        name="torchserve",
        title="TorchServe",
        folder=_FOLDER,
        needs=("torchserve",),
        routes=(replace(PREDICT, path="/predictions/churn"),),
        launch=_launch,
        prepare=_prepare,
        batching="timer",
        how="one worker with this project's scorer, batches of up to 32 within 1 ms, no request "
        "logs",
        tools=(Tool("java", "TorchServe needs Java 17"),),
        unlocked=("torch==2.13.0",),
    ),
)
