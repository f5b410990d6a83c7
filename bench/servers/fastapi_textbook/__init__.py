"""FastAPI as tutorials teach it, under plain uvicorn."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.servers.server import Server
from bench.servers.uvicorn import launch

__all__ = ["SERVERS"]

SERVERS: Final = (
    Server(
        name="fastapi-textbook",
        title="FastAPI, textbook",
        folder=Path(__file__).parent,
        needs=("fastapi", "uvicorn", "pandas", "scikit-learn", "cloudpickle"),
        launch=launch(Path(__file__).parent, "app"),
        how="as in tutorials: sync endpoint, a DataFrame per request, plain uvicorn, access log on",
    ),
)
