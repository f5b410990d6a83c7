"""FastAPI tuned by hand, on uvloop and httptools: with three kinds of metrics and models."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.kinds import CALIBRATED, FOREST, GRADIENT_BOOSTING, KINDS, TREE
from bench.servers.server import BATCH, PREDICT, PREDICT_V1, Server
from bench.servers.uvicorn import TUNED, TUNED_NEEDS, launch

__all__ = ["SERVERS"]

_HERE: Final = Path(__file__).parent
_NEEDS: Final = ("fastapi", *TUNED_NEEDS)
_METRICS: Final = "prometheus-fastapi-instrumentator"

SERVERS: Final = (
    Server(
        name="fastapi-tuned",
        title="FastAPI, hand-tuned",
        folder=_HERE,
        needs=(*_NEEDS, _METRICS),
        launch=launch(_HERE, "app", "--factory", *TUNED),
        routes=(PREDICT, PREDICT_V1, BATCH),
        models=KINDS,
        how="this project's scorer on the event loop, uvloop, httptools, no access log",
    ),
    Server(
        name="fastapi-tuned-metrics",
        title="FastAPI, hand-tuned, own metrics",
        folder=_HERE,
        needs=(*_NEEDS, "prometheus-client"),
        launch=launch(_HERE, "lean_app", "--factory", *TUNED),
        routes=(PREDICT, PREDICT_V1, BATCH),
        how="the same with the least metrics that are still useful, written by hand",
    ),
    Server(
        name="fastapi-tuned-threads",
        title="FastAPI, hand-tuned, predict_proba in threads",
        folder=_HERE,
        needs=(*_NEEDS, _METRICS, "scikit-learn"),
        launch=launch(_HERE, "threadpool_app", "--factory", *TUNED),
        models=(TREE, FOREST, GRADIENT_BOOSTING, CALIBRATED),
        how="the same with scikit-learn's own predict_proba, in the threadpool",
    ),
)
