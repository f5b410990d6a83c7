"""NVIDIA's Triton Inference Server with a model in its Python backend.

The wheel of pytriton brings the server and a stub for each version of Python. It is run without
pytriton's own Python API, which hands each batch to one more process.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.errors import BenchmarkError
from bench.servers.server import Launch, Route, Server, row, tensor

if TYPE_CHECKING:
    from bench.servers.server import Site

__all__ = ["SERVERS"]

_FOLDER: Final = Path(__file__).parent
_REPOSITORY: Final = "repository"
_BACKENDS: Final = "backends"


def _prepare(site: Site) -> None:
    packages = site.packages
    distribution = packages / "pytriton" / "tritonserver"
    python = packages.parent.name.removeprefix("python")
    stub = distribution / "python_backend_stubs" / python / "triton_python_backend_stub"
    if not stub.exists():
        raise BenchmarkError(f"Triton's wheel has no Python backend for Python {python}.")
    backend = site.folder / _BACKENDS / "python"
    backend.mkdir(parents=True)
    for part in (stub, *(distribution / "backends" / "python").glob("*triton_python*")):
        (backend / part.name).symlink_to(part)

    model = site.folder / _REPOSITORY / "churn"
    version = model / "1"
    version.mkdir(parents=True)
    shutil.copy(_FOLDER / "config.pbtxt", model)
    shutil.copy(_FOLDER / "model.py", version)
    shutil.copy(site.scorer, version / "scorer.pkl")


def _launch(site: Site) -> Launch:
    packages = site.packages
    libraries = (str(packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR"))
    return Launch(
        (
            str(packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
            f"--model-repository={site.folder / _REPOSITORY}",
            f"--backend-directory={site.folder / _BACKENDS}",
            "--disable-auto-complete-config",
            "--http-address=127.0.0.1",
            f"--http-port={site.port}",
            "--http-thread-count=4",
            "--allow-grpc=false",
            f"--metrics-port={site.spare_ports[0]}",
        ),
        {
            # The stub is linked with libpython, and finds the environment by its `python3`.
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "PATH": os.pathsep.join((str(site.python.parent), os.environ["PATH"])),
        },
    )


SERVERS: Final = (
    Server(
        name="triton",
        title="Triton Inference Server",
        folder=_FOLDER,
        needs=("nvidia-pytriton",),
        routes=(
            Route(
                "predict",
                "/v2/models/churn/infer",
                lambda customers: tensor("customers", row(customers[0])),
                lambda answer: [answer["outputs"][0]["data"][0]],
            ),
        ),
        launch=_launch,
        prepare=_prepare,
        batching="no timer",
        how="Python backend with this project's scorer, batches of up to 256 without delay, "
        "4 HTTP threads",
    ),
)
