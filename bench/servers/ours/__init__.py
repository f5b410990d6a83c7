"""This project's own service, as its users run it; with other settings; of another commit."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bench.kinds import KINDS, MODELS
from bench.process import CLIENT_CPU, ROOT, SERVER_CPU
from bench.servers.server import (
    BATCH,
    BATCH_V2,
    PREDICT,
    PREDICT_V1,
    PREDICT_V2,
    Launch,
    Server,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.servers.server import Site

__all__ = ["OURS", "SERVERS", "TWO_WORKERS", "of_commit", "runtime_lock"]


def _launch(root: Path, home: Path | None = None, **settings: str) -> Callable[[Site], Launch]:
    """Return how to start the service of the checkout in ``root``.

    Args:
        root: The checkout.
        home: Its own model store, if it has one.
        settings: Of the service.
    """

    def launched(site: Site) -> Launch:
        serve = ("-m", "bentoml", "serve", "service.py:ChurnService", "--host", "127.0.0.1")
        return Launch(
            (str(site.python), *serve, "--port", str(site.port)),
            {
                "PYTHONPATH": os.pathsep.join((str(root), str(root / "src"))),
                "BENTOML_HOME": str(home or site.home),
                "CHURN_MODEL_TAG": f"{site.tag.partition(':')[0]}:latest" if home else site.tag,
                "CHURN_WORKERS": "1",
                **settings,
            },
            root,
        )

    return launched


def runtime_lock(root: Path) -> Path:
    """Return what the service of a checkout is installed from, in production, too.

    In the environment of the bench it would be larger: what is installed there for the training
    and the tests, scikit-learn and BentoML import as well.
    """
    here = root / "requirements" / "runtime.txt"
    return here if here.exists() else root / "requirements.txt"


OURS: Final = Server(
    name="ours",
    title="churn-serving",
    folder=ROOT / "bench" / "servers" / "ours",
    needs=("bentoml",),
    requirements=runtime_lock(ROOT),
    launch=_launch(ROOT),
    routes=(PREDICT, PREDICT_V1, BATCH, PREDICT_V2, BATCH_V2),
    models=KINDS,
    batching="no timer",
    ours=True,
    how="one worker, all else as it comes: validation, metrics, deadlines, shedding",
)
TWO_WORKERS: Final = replace(
    OURS,
    name="ours-two-workers",
    title="churn-serving, two workers on two cores",
    launch=_launch(ROOT, CHURN_WORKERS="2"),
    cpus=frozenset({SERVER_CPU, CLIENT_CPU}),
    optional=True,
    how="the same with two workers, of which one shares its core with the client",
)
_SPLIT: Final = replace(
    OURS,
    name="ours-split",
    title="churn-serving, model in its own service",
    launch=_launch(ROOT, CHURN_TOPOLOGY="split", CHURN_RUNNER_WORKERS="1"),
    optional=True,
    how="the same with the model in a second process",
)
SERVERS: Final = (OURS, _SPLIT, TWO_WORKERS)


def of_commit(commit: str, root: Path, home: Path, models: tuple[str, ...] = MODELS) -> Server:
    """Return the service of another commit, checked out in ``root``, with the store ``home``."""
    knows_v2 = (root / "src/churn_serving/http/api/v2.py").exists()
    return replace(
        OURS,
        routes=OURS.routes if knows_v2 else (PREDICT, PREDICT_V1, BATCH),
        name=f"commit-{commit}",
        title=f"churn-serving at {commit}",
        launch=_launch(root, home),
        requirements=runtime_lock(root),
        models=models,
        how="its own code, packages and model",
    )
