"""MLflow's scoring server, with the scikit-learn pipeline saved as an MLflow model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.errors import BenchmarkError
from bench.servers.server import Launch, Route, Server, row

if TYPE_CHECKING:
    from bench.servers.server import Site

__all__ = ["SERVERS"]

_HERE: Final = Path(__file__).parent
_MODEL: Final = "model"


def _environment(site: Site) -> dict[str, str]:
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": (site.folder / "runs").as_uri(),
    }


def _prepare(site: Site) -> None:
    result = subprocess.run(
        [
            *(str(site.python), str(_HERE / "save.py")),
            *(str(site.pipeline), str(site.folder / _MODEL)),
        ],
        cwd=site.folder,
        env={**os.environ, **_environment(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise BenchmarkError(f"MLflow did not save the model:\n{result.stderr.strip()}")


def _launch(site: Site) -> Launch:
    commands = site.python.parent
    return Launch(
        (
            *(str(commands / "mlflow"), "models", "serve", "--env-manager=local"),
            *(f"--model-uri={_MODEL}", "--host=127.0.0.1", f"--port={site.port}", "--workers=1"),
        ),
        {
            **_environment(site),
            # It starts ``uvicorn``, whichever comes first.
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            # uvicorn's --no-access-log, for which MLflow has no option.
            "UVICORN_ACCESS_LOG": "false",
        },
        folder=site.folder,
    )


SERVERS: Final = (
    Server(
        name="mlflow",
        title="MLflow",
        folder=_HERE,
        needs=("mlflow",),
        # As a tensor, because a DataFrame (``dataframe_split``) for each request takes four times
        # as long: with 32 connections, logistic regression, 1030 and 255 requests a second.
        routes=(
            Route(
                "predict",
                "/invocations",
                lambda customers: {"inputs": [row(customers[0])]},
                lambda answer: [answer["predictions"][0][1]],
            ),
        ),
        launch=_launch,
        prepare=_prepare,
        how="scikit-learn's pipeline, rows sent as a tensor, one worker, uvloop, httptools; "
        "no access log",
    ),
)
