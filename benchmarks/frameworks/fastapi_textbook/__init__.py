"""FastAPI as tutorials teach it: ``benchmarks.peers.textbook`` under plain uvicorn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.frameworks.framework import Framework, Launch
from benchmarks.frameworks.ours import PYTHONPATH, decode, encode
from benchmarks.servers import PREDICT

if TYPE_CHECKING:
    from benchmarks.frameworks.framework import Site

__all__ = ["FRAMEWORK"]


def _launch(site: Site) -> Launch:
    return Launch(
        (
            *(str(site.python), "-m", "uvicorn", "benchmarks.peers.textbook:app"),
            f"--port={site.port}",
        ),
        {"PYTHONPATH": PYTHONPATH, "CHURN_BUNDLE": str(site.bundle)},
    )


FRAMEWORK: Final = Framework(
    name="fastapi-textbook",
    title="FastAPI, textbook",
    folder=Path(__file__).parent,
    package="fastapi",
    path=PREDICT,
    encode=encode,
    decode=decode,
    launch=_launch,
    how="as in tutorials: sync endpoint, a DataFrame per request, plain uvicorn, access log on",
)
