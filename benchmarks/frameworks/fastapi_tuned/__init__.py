"""FastAPI tuned by hand: ``benchmarks.peers.hand_tuned`` on uvloop and httptools."""

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
            *(str(site.python), "-m", "uvicorn", "benchmarks.peers.hand_tuned:app", "--factory"),
            *(f"--port={site.port}", "--loop=uvloop", "--http=httptools"),
            *("--no-access-log", "--no-server-header", "--no-proxy-headers"),
        ),
        {"PYTHONPATH": PYTHONPATH, "CHURN_BUNDLE": str(site.bundle)},
    )


FRAMEWORK: Final = Framework(
    name="fastapi-tuned",
    title="FastAPI, hand-tuned",
    folder=Path(__file__).parent,
    package="fastapi",
    path=PREDICT,
    encode=encode,
    decode=decode,
    launch=_launch,
    how="this project's scorer on the event loop, uvloop, httptools, no access log",
)
