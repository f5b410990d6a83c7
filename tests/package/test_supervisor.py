from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any

import pytest
from circus.arbiter import Arbiter

from churn_serving.runtime import supervisor
from churn_serving.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Prepares the supervisor, starts it as BentoML does, and returns what circus was told."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(Arbiter, "__init__", lambda _, *__, **kwargs: told.update(kwargs))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(supervisor, "configure_logging", lambda _: None)
    supervisor.prepare_supervisor(Settings(workers=1))

    def start(**kwargs: Any) -> dict[str, Any]:
        Arbiter([], check_delay=10, **kwargs)
        return told

    return start


def test_dead_workers_are_looked_for_twice_a_second(
    started: Callable[..., dict[str, Any]],
) -> None:
    assert started()["check_delay"] == 0.5


def test_under_reload_nobody_looks(started: Callable[..., dict[str, Any]]) -> None:
    """A look collides with the restarts of the plugin that watches the files."""
    assert started(plugins=[{"use": "bentoml's reloader"}])["check_delay"] < 0


@pytest.mark.usefixtures("started")
def test_a_taken_port_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(errno.EADDRINUSE, "Address already in use")
    sys.excepthook(OSError, error, None)
    assert capsys.readouterr().err == (
        "Error: The port is taken; choose another one with --port.\n"
    )


@pytest.mark.usefixtures("started")
def test_any_other_error_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    sys.excepthook(OSError, error, None)
    assert "No space left on device" in capsys.readouterr().err
