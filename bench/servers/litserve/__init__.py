"""LitServe with this project's own scorer, asked with a customer's JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.servers.server import Launch, Server

if TYPE_CHECKING:
    from bench.servers.server import Site

__all__ = ["SERVERS"]

_HERE: Final = Path(__file__).parent


def _launch(site: Site) -> Launch:
    return Launch((str(site.python), str(_HERE / "serve.py"), str(site.scorer), str(site.port)))


SERVERS: Final = (
    Server(
        name="litserve",
        title="LitServe",
        folder=_HERE,
        needs=("litserve",),
        launch=_launch,
        how="this project's scorer, one worker and one HTTP process, uvloop, httptools, fast "
        "queue; its batching off, which was faster; no access log",
    ),
)
