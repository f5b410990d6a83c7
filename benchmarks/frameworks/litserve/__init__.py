"""LitServe with this project's own scorer, asked with a customer's JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.frameworks.framework import Framework, Launch
from benchmarks.frameworks.ours import decode, encode
from benchmarks.servers import PREDICT

if TYPE_CHECKING:
    from benchmarks.frameworks.framework import Site

__all__ = ["FRAMEWORK"]

_HERE: Final = Path(__file__).parent


def _launch(site: Site) -> Launch:
    return Launch((str(site.python), str(_HERE / "serve.py"), str(site.scorer), str(site.port)))


FRAMEWORK: Final = Framework(
    name="litserve",
    title="LitServe",
    folder=_HERE,
    package="litserve",
    path=PREDICT,
    encode=encode,
    decode=decode,
    launch=_launch,
    how="this project's scorer, one worker and one HTTP process, uvloop, httptools, fast queue; "
    "its batching off, which was faster; no access log",
)
