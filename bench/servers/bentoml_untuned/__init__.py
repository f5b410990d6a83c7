"""BentoML with every option at its default: with its adaptive batching, and without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.process import ROOT
from bench.servers.ours import runtime_lock
from bench.servers.server import Launch, Route, Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.servers.server import Site

__all__ = ["DEFAULTS", "SERVERS"]

_HERE: Final = Path(__file__).parent


def _launch(service: str) -> Callable[[Site], Launch]:
    def launched(site: Site) -> Launch:
        serve = ("-m", "bentoml", "serve", f"service:{service}", "--host", "127.0.0.1")
        return Launch(
            (str(site.python), *serve, "--port", str(site.port)),
            {"BENTOML_HOME": str(site.folder)},
            _HERE,
        )

    return launched


_UNTUNED: Final = Server(
    name="bentoml-untuned",
    title="BentoML, untuned",
    folder=_HERE,
    needs=("bentoml",),
    requirements=runtime_lock(ROOT),
    routes=(
        Route(
            "predict",
            "/predict",
            lambda customers: {"customers": customers},
            lambda answer: [answer[0]],
        ),
    ),
    launch=_launch("Churn"),
    batching="timer",
    how="as in its documentation: adaptive batching, every option at its default, access log on",
)
DEFAULTS: Final = replace(
    _UNTUNED,
    name="bentoml-defaults",
    title="BentoML, defaults",
    launch=_launch("ChurnAlone"),
    batching="none",
    how="the same without batching, the endpoint async",
)
SERVERS: Final = (_UNTUNED, DEFAULTS)
