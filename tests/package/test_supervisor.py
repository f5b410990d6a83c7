from __future__ import annotations

import asyncio
import errno
import logging
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from circus.arbiter import Arbiter
from circus.sighandler import SysHandler

from churn_serving.errors import ModelCorruptedError
from churn_serving.model.artifact import Trust
from churn_serving.runtime import reload, supervisor
from churn_serving.runtime.reload import RollingReload
from churn_serving.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _runtime(settings: Settings) -> Any:
    model = SimpleNamespace(tag="churn:old", is_pickled=False, has_reasons=False)
    return SimpleNamespace(
        settings=settings,
        trust=Trust(),
        model=model,
        is_split=False,
        load=lambda: None,
        state=SimpleNamespace(card=None),
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Prepares the supervisor, starts it as BentoML does, and returns what circus was told."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(Arbiter, "__init__", lambda _, *__, **kwargs: told.update(kwargs))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    for name in ("quit", "reload"):
        monkeypatch.setattr(SysHandler, name, getattr(SysHandler, name))
    monkeypatch.setattr(supervisor, "raise_descriptor_limit", lambda: None)
    monkeypatch.setattr(supervisor, "configure_logging", lambda _: None)
    supervisor.prepare_supervisor(_runtime(Settings(workers=1)))

    def start(**kwargs: Any) -> dict[str, Any]:
        Arbiter([], check_delay=10, **kwargs)
        return told

    return start


def test_a_model_without_a_card_is_served_with_a_sentence(
    started: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        supervisor._try_the_model(_runtime(Settings(workers=1)))
    assert started()
    assert "The model churn:old has no card: GET /model answers 404" in caplog.text


def test_a_model_without_reasons_is_served_with_a_sentence(
    started: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    runtime = _runtime(Settings(workers=1))
    with caplog.at_level(logging.INFO):
        supervisor._try_the_model(runtime)
    assert started()
    assert "The model churn:old gives no reasons: all else is served" in caplog.text
    caplog.clear()
    runtime.model.has_reasons = True
    with caplog.at_level(logging.INFO):
        supervisor._try_the_model(runtime)
    assert "reasons" not in caplog.text


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
        "Error: The port is taken; choose another: --port 3001, or make serve PORT=3001.\n"
    )


@pytest.mark.usefixtures("started")
def test_any_other_error_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    sys.excepthook(OSError, error, None)
    assert "No space left on device" in capsys.readouterr().err


class Process:
    """A worker as circus knows it, which ends when it is told to."""

    def __init__(self, pid: int, started: float, *, alive: bool = True) -> None:
        self.pid = pid
        self.started = started
        self.alive = alive

    def is_alive(self) -> bool:
        return self.alive

    def send_signal(self, _: int) -> None:
        self.alive = False


class Watcher:
    """Starts workers; what they say of themselves is decided by ``says``."""

    def __init__(self, folder: Path, *, workers: int, says: str | None) -> None:
        self.env = {"CHURN_MODEL_TAG": "churn:old", "PROMETHEUS_MULTIPROC_DIR": str(folder)}
        self.hooks: dict[str, Any] = {}
        self.numprocesses = workers
        self.processes = {pid: Process(pid, pid) for pid in range(1, workers + 1)}
        self.started: list[tuple[Process, str]] = []
        self._folder = folder
        self._says = says

    def spawn_process(self) -> None:
        new = Process(100 + len(self.started), 100, alive=self._says is not None)
        self.processes[new.pid] = new
        self.started.append((new, self.env["CHURN_MODEL_TAG"]))
        if self._says is not None:
            samples = f'{{"samples": [["ml_workers_ready", [], {self._says}]]}}'
            self._folder.joinpath(f"{new.pid}-1.json").write_text(samples)


def _reloaded(watcher: Watcher, settings: Settings | None = None, times: int = 1) -> None:
    async def run() -> None:
        rolling = RollingReload(_runtime(settings or Settings(workers=1)))
        arbiter: Any = SimpleNamespace(get_watcher=lambda _: watcher)
        for _ in range(times):
            rolling.start(arbiter)
        if rolling._task is not None:
            await rolling._task

    asyncio.run(run())


@pytest.fixture
def _newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's tag means a newer model now."""
    monkeypatch.setattr(reload, "check_model", lambda *_: SimpleNamespace(tag="churn:new"))
    monkeypatch.setattr(reload, "_STEP_SECONDS", 0)


@pytest.mark.usefixtures("_newer")
@pytest.mark.parametrize("workers", [1, 3])
def test_a_reload_replaces_each_worker_by_one_with_the_new_model(
    workers: int, tmp_path: Path
) -> None:
    watcher = Watcher(tmp_path, workers=workers, says="1.0")
    old = list(watcher.processes.values())
    _reloaded(watcher)
    assert [tag for _, tag in watcher.started] == ["churn:new"] * workers
    assert set(watcher.processes) == {new.pid for new, _ in watcher.started}
    assert not any(process.alive for process in old)
    assert watcher.env["CHURN_MODEL_TAG"] == "churn:new"


@pytest.mark.usefixtures("_newer")
@pytest.mark.parametrize(
    ("says", "reason"), [("0.0", "is not ready"), (None, "has died at its start")]
)
def test_a_new_worker_that_fails_leaves_the_old_one(
    says: str | None, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher(tmp_path, workers=2, says=says)
    old = dict(watcher.processes)
    _reloaded(watcher)
    assert watcher.processes == old
    assert all(process.alive for process in old.values())
    assert not watcher.started[0][0].alive
    assert watcher.env["CHURN_MODEL_TAG"] == "churn:old"
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert reason in line.getMessage()


@pytest.mark.usefixtures("_newer")
def test_a_worker_that_is_never_ready_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reload, "START_SECONDS", 0)
    watcher = Watcher(tmp_path, workers=1, says="1.0")
    old = dict(watcher.processes)
    _reloaded(watcher)
    assert watcher.processes == old
    assert "was not ready within" in caplog.text


def test_a_damaged_model_starts_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def damaged(*_: object) -> None:
        raise ModelCorruptedError("The file is another one.")

    monkeypatch.setattr(reload, "check_model", damaged)
    watcher = Watcher(tmp_path, workers=1, says="1.0")
    _reloaded(watcher)
    assert watcher.started == []
    assert caplog.messages == ["Reload: 0 of 1 workers replaced: The file is another one."]


@pytest.mark.usefixtures("_newer")
def test_a_reload_during_a_reload_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher(tmp_path, workers=1, says="1.0")
    _reloaded(watcher, times=2)
    assert len(watcher.started) == 1
    assert caplog.messages.count("SIGHUP is refused: the last reload is not over") == 1


def test_the_split_topology_refuses_a_reload(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher(tmp_path, workers=1, says="1.0")
    _reloaded(watcher, Settings(workers=1, topology="split"))
    assert watcher.started == []
    assert len(caplog.messages) == 1
    assert "SIGHUP is refused" in caplog.text


@pytest.mark.usefixtures("_newer")
def test_a_stop_during_a_reload_ends_the_new_worker_too(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path, workers=1, says="1.0")
    rolling = RollingReload(_runtime(Settings(workers=1)))
    new = rolling._spawn(watcher, watcher.env)
    assert new.pid not in watcher.processes
    rolling._hand_back(watcher=watcher)
    assert new.pid in watcher.processes


@pytest.mark.usefixtures("started")
def test_a_sigterm_that_meets_a_busy_supervisor_is_not_lost() -> None:
    jobs: list[object] = []
    queued: list[Any] = []

    async def run() -> None:
        arbiter = SimpleNamespace(_stopping=False, _exclusive_running_command="manage_watchers")
        loop = SimpleNamespace(add_callback_from_signal=lambda *call: queued.append(call))
        controller = SimpleNamespace(arbiter=arbiter, loop=loop, dispatch=jobs.append)
        SysHandler.quit(SimpleNamespace(controller=controller))
        ((end, *arguments),) = queued
        ending = asyncio.create_task(end(*arguments))
        await asyncio.sleep(0)
        assert not jobs
        arbiter._exclusive_running_command = None
        await ending

    asyncio.run(run())
    assert len(jobs) == 1
