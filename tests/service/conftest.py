"""The real application, in this process, with a real model."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from churn_serving.http.keys import key_digests
from churn_serving.learning.candidates import CANDIDATES, SCALER, fit
from churn_serving.learning.dataset import load_dataset
from churn_serving.learning.registration import save_artifact
from churn_serving.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import ModuleType

    from starlette.types import ASGIApp

    from churn_serving.model.artifact import Artifact


@pytest.fixture(scope="session")
def model_tag() -> str:
    """A registered logistic regression, fitted on the public data."""
    dataset = load_dataset()
    pipeline = fit(CANDIDATES[0], dataset.X, dataset.y, seed=0)
    return save_artifact(
        estimator=pipeline,
        scaler=pipeline[SCALER],
        threshold=0.33,
        measured={},
        background=dataset.X[:1000],
    )


@pytest.fixture(scope="session")
def artifact(model_tag: str) -> Artifact:
    """The same model, loaded from the store."""
    from churn_serving.model.artifact import load_artifact

    return load_artifact(model_tag)


@pytest.fixture(scope="session")
def service(model_tag: str) -> ModuleType:
    """The module ``service.py``, imported once there is a model."""
    assert model_tag
    with pytest.MonkeyPatch.context() as patch:
        # The module pins the model for the processes it starts; other tests start their own.
        patch.setenv("CHURN_MODEL_TAG", "churn_classifier:latest")
        return importlib.import_module("service")


@pytest.fixture(scope="session")
def running(service: ModuleType) -> Callable[[ASGIApp], AbstractContextManager[TestClient]]:
    """Runs an application from its start to its stop, one after the other."""

    @contextmanager
    def run(app: ASGIApp) -> Iterator[TestClient]:
        # A process runs its application once; this one does it again and again.
        service.RUNTIME.state.draining = False
        service.RUNTIME.worker._tasks.clear()
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client

    return run


@pytest.fixture
def served(service: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ASGIApp]:
    """The application as it is served with other settings."""

    def build(**changes: Any) -> ASGIApp:
        settings = Settings(model_tag=service.SETTINGS.model_tag, **changes)
        monkeypatch.setattr(service, "RUNTIME", replace(service.RUNTIME, settings=settings))
        monkeypatch.setattr(service, "KEY_DIGESTS", key_digests(settings))
        app: ASGIApp = service.ChurnService.to_asgi()
        return app

    return build


@pytest.fixture(scope="module")
def client(
    service: ModuleType, running: Callable[[ASGIApp], AbstractContextManager[TestClient]]
) -> Iterator[TestClient]:
    """A client of the application as it is served."""
    with running(service.ChurnService.to_asgi()) as client:
        yield client
