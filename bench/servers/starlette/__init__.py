"""The hand-tuned FastAPI's endpoint on bare Starlette: what FastAPI's own routing costs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.kinds import LOGISTIC
from bench.servers.server import Server
from bench.servers.uvicorn import TUNED, TUNED_NEEDS, launch

__all__ = ["SERVERS"]

SERVERS: Final = (
    Server(
        name="starlette",
        title="Starlette, hand-tuned, own metrics",
        folder=Path(__file__).parent,
        needs=("starlette", *TUNED_NEEDS, "pydantic", "prometheus-client"),
        launch=launch(Path(__file__).parent, "app", *TUNED),
        models=(LOGISTIC,),
        how="this project's scorer on the event loop, uvloop, httptools, no access log",
    ),
)
