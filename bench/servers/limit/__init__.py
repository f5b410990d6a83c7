"""The limit: raw ASGI that reads the body and answers a constant. No Python server is faster."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.kinds import LOGISTIC
from bench.servers.server import Server
from bench.servers.uvicorn import TUNED, launch

__all__ = ["SERVERS"]

SERVERS: Final = (
    Server(
        name="limit",
        title="raw ASGI, constant answer",
        folder=Path(__file__).parent,
        needs=("uvicorn", "uvloop", "httptools"),
        launch=launch(Path(__file__).parent, "app", "--lifespan=off", *TUNED),
        models=(LOGISTIC,),
        constant=True,
        how="no model, no validation, no metrics: uvicorn on uvloop and httptools",
    ),
)
