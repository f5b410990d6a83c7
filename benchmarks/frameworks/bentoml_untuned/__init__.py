"""BentoML with its adaptive batching, and every option at its default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json, to_json

from benchmarks.frameworks.framework import Framework, Launch
from benchmarks.servers import PREDICT

if TYPE_CHECKING:
    from benchmarks.frameworks.framework import Site
    from churn_serving.schema import Customer

__all__ = ["FRAMEWORK"]

_HERE: Final = Path(__file__).parent


def _encode(customer: Customer) -> bytes:
    return to_json({"customers": [customer]})


def _decode(answer: bytes) -> float:
    (churn,) = from_json(answer)
    return float(churn)


def _launch(site: Site) -> Launch:
    return Launch(
        (
            *(str(site.python), "-m", "bentoml", "serve", "service:Churn"),
            *("--host", "127.0.0.1", "--port", str(site.port)),
        ),
        {
            "BENTOML_HOME": str(site.folder),
            "BENTOML_DO_NOT_TRACK": "True",
            "CHURN_SCORER": str(site.scorer),
        },
        _HERE,
    )


FRAMEWORK: Final = Framework(
    name="bentoml-untuned",
    title="BentoML, untuned",
    folder=_HERE,
    package="bentoml",
    path=PREDICT,
    encode=_encode,
    decode=_decode,
    launch=_launch,
    batching="timer",
    how="as in its documentation: adaptive batching, every option at its default, access log on",
)
