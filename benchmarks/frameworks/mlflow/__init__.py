"""MLflow's scoring server, with the scikit-learn pipeline saved as an MLflow model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json, to_json

from benchmarks.errors import BenchmarkError
from benchmarks.frameworks.framework import Framework, Launch
from churn_serving.features.rows import customer_row

if TYPE_CHECKING:
    from benchmarks.frameworks.framework import Site
    from churn_serving.schema import Customer

__all__ = ["FRAMEWORK"]

_HERE: Final = Path(__file__).parent
_MODEL: Final = "model"


def _encode(customer: Customer) -> bytes:
    # As a tensor, because a DataFrame (``dataframe_split``) for each request takes four times as
    # long: with 32 connections, logistic regression, 1030 and 255 requests a second.
    row = [float(value) for value in customer_row(customer)]
    return to_json({"inputs": [row]})


def _decode(answer: bytes) -> float:
    _, churn = from_json(answer)["predictions"][0]
    return float(churn)


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


FRAMEWORK: Final = Framework(
    name="mlflow",
    title="MLflow",
    folder=_HERE,
    package="mlflow",
    path="/invocations",
    encode=_encode,
    decode=_decode,
    launch=_launch,
    prepare=_prepare,
    how="scikit-learn's pipeline, rows sent as a tensor, one worker, uvloop, httptools; "
    "no access log",
)
