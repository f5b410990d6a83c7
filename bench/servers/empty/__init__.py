"""An empty BentoML service: what a service costs that does nothing, but is started like ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.kinds import KINDS
from bench.process import ROOT
from bench.servers.ours import runtime_lock
from bench.servers.server import Launch, Server

if TYPE_CHECKING:
    from bench.servers.server import Site

__all__ = ["EMPTY", "SERVERS"]

_HERE: Final = Path(__file__).parent


def _launch(site: Site) -> Launch:
    serve = ("-m", "bentoml", "serve", "service:Empty", "--host", "127.0.0.1")
    return Launch(
        (str(site.python), *serve, "--port", str(site.port)),
        {"BENTOML_HOME": str(site.folder)},
        _HERE,
    )


EMPTY: Final = Server(
    name="empty",
    title="BentoML, an empty service",
    folder=_HERE,
    needs=("bentoml",),
    requirements=runtime_lock(ROOT),
    launch=_launch,
    # It has none of them, and is measured beside each.
    models=KINDS,
    constant=True,
    optional=True,
    how="one worker, our settings of BentoML, the HTTP packages imported, a constant answer",
)
SERVERS: Final = (EMPTY,)
