"""This project's own service, as its users run it, with one worker."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json, to_json

from benchmarks.frameworks.framework import Framework, Launch
from benchmarks.servers import PREDICT, ROOT

if TYPE_CHECKING:
    from benchmarks.frameworks.framework import Site
    from churn_serving.schema import Customer

__all__ = ["FRAMEWORK", "PYTHONPATH", "decode", "encode"]

PYTHONPATH: Final = os.pathsep.join((str(ROOT), str(ROOT / "src")))
"""For servers that import ``churn_serving``, which is installed in none of the environments."""


def encode(customer: Customer) -> bytes:
    """Return the customer's JSON."""
    return to_json(customer)


def decode(answer: bytes) -> float:
    """Return the churn probability in an answer of ``/predict``."""
    return float(from_json(answer)["churn_probability"])


def _launch(site: Site) -> Launch:
    return Launch(
        (
            *(str(site.python), "-m", "bentoml", "serve", "service.py:ChurnService"),
            *("--host", "127.0.0.1", "--port", str(site.port)),
        ),
        {
            "PYTHONPATH": PYTHONPATH,
            "BENTOML_HOME": str(site.store),
            "BENTOML_DO_NOT_TRACK": "True",
            "CHURN_MODEL_TAG": site.tag,
            "CHURN_WORKERS": "1",
        },
    )


FRAMEWORK: Final = Framework(
    name="ours",
    title="churn-serving",
    folder=ROOT,
    package="bentoml",
    path=PREDICT,
    encode=encode,
    decode=decode,
    launch=_launch,
    batching="no timer",
    how="one worker, all else as it comes: validation, metrics, deadlines, shedding",
)
