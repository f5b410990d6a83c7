"""SIGHUP: replace the workers one by one, by such as serve what the model's tag means now.

circus would end all workers first and start new ones then, and wait for none of them. Here a new
worker is started beside the old ones. Once it is ready it takes the place of one of them, which
drains. circus knows of as many workers as before at each moment, so its regular look at them has
nothing to mend.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import psutil

from churn_serving.errors import ChurnServingError
from churn_serving.model.artifact import check_model
from churn_serving.runtime.pins import current_policy, pins
from churn_serving.telemetry.exposition import says_ready

if TYPE_CHECKING:
    from collections.abc import Collection

    from circus.arbiter import Arbiter
    from circus.process import Process
    from circus.watcher import Watcher

    from churn_serving.runtime.assemble import Runtime

__all__ = ["RollingReload"]

logger = logging.getLogger(__name__)

START_SECONDS: Final = 120.0
"""Patience, not expectation: a worker that is not ready by then never will be."""

_EXIT_SECONDS: Final = 10.0
"""For what a worker does at its end after the last answer."""

_STEP_SECONDS: Final = 0.05
_WORKERS: Final = "service"
"""BentoML's name of those who answer."""


class _FailedError(Exception):
    """A new worker cannot take an old one's place; the text says why."""


class RollingReload:
    """Replaces the workers, one reload at a time.

    Args:
        runtime: That of the start, with the model's tag as the operator wrote it.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._settings = settings = runtime.settings
        self._trust = runtime.trust
        self._drain_seconds = settings.drain_delay_seconds + settings.drain_seconds + _EXIT_SECONDS
        self._apart: dict[int, Process] = {}  # of whom circus does not know
        self._task: asyncio.Task[None] | None = None

    def start(self, arbiter: Arbiter) -> None:
        """Begin a reload, or say in one line why not. To be called on the arbiter's loop."""
        if self._settings.topology == "split":
            logger.warning(
                "SIGHUP is refused: with CHURN_TOPOLOGY=split the workers and the model's service "
                "must change together; start the service again"
            )
        elif self._task is not None:
            logger.warning("SIGHUP is refused: the last reload is not over")
        else:
            self._task = asyncio.get_running_loop().create_task(
                self._run(arbiter.get_watcher(_WORKERS))
            )

    async def _run(self, watcher: Watcher) -> None:
        watcher.hooks["before_stop"] = self._hand_back
        done, wanted = 0, watcher.numprocesses
        try:
            model = await asyncio.to_thread(check_model, self._settings.model_tag, self._trust)
            policy = current_policy(self._settings)
            pinned = pins(model.tag, policy, self._settings)
            logger.info(
                "Reload: the workers are replaced one by one; they get %s and the policy %s",
                model.tag,
                policy.version,
            )
            fresh: set[int] = set()
            while done < wanted and not fresh.issuperset(watcher.processes):
                fresh.add(await self._replace_one(watcher, pinned, fresh))
                done += 1
            logger.info("Reload: done, %s is served by all workers", model.tag)
        except (ChurnServingError, _FailedError) as error:
            logger.error("Reload: %d of %d workers replaced: %s", done, wanted, error)  # noqa: TRY400 - the text says it all
        except Exception:
            logger.exception("Reload: %d of %d workers replaced", done, wanted)
        finally:
            self._task = None

    async def _replace_one(
        self, watcher: Watcher, pinned: dict[str, str], fresh: Collection[int]
    ) -> int:
        """Put a new worker in the place of the oldest that is not new; return its process id.

        Raises:
            _FailedError: The new one is not ready; it is gone again, and the old one still there.
        """
        env = {**watcher.env, **pinned}
        folder = Path(env["PROMETHEUS_MULTIPROC_DIR"])
        known = _names(folder)  # a process id may be used again
        new = self._spawn(watcher, env)
        try:
            await self._ready(new, folder, known)
        except Exception:
            await self._end(new)
            raise
        # Those who die from now on come back with the new model.
        watcher.env = env
        del self._apart[new.pid]
        watcher.processes[new.pid] = new
        old = min(
            (process for pid, process in watcher.processes.items() if pid not in {*fresh, new.pid}),
            key=lambda process: process.started,
            default=None,
        )
        if old is not None:
            self._apart[old.pid] = watcher.processes.pop(old.pid)
            await self._end(old)
        return int(new.pid)

    def _spawn(self, watcher: Watcher, env: dict[str, str]) -> Process:
        """Start a worker of which circus does not know."""
        before, usual = set(watcher.processes), watcher.env
        watcher.env = env
        try:
            watcher.spawn_process()
        finally:
            watcher.env = usual
        for pid in watcher.processes.keys() - before:
            new = watcher.processes.pop(pid)
            self._apart[pid] = new
            return new
        raise _FailedError("no process could be started")

    async def _ready(self, new: Process, folder: Path, known: Collection[str]) -> None:
        """Wait until a worker is ready.

        Raises:
            _FailedError: It will not be.
        """
        deadline = monotonic() + START_SECONDS
        while monotonic() < deadline:
            if not new.is_alive():
                raise _FailedError(f"the new worker (process {new.pid}) has died at its start")
            ready = says_ready(folder, new.pid, known)
            if ready:
                return
            # Its first figures come after its first try to answer.
            if ready is False:
                raise _FailedError(
                    f"the new worker (process {new.pid}) is not ready; its own line says why"
                )
            await asyncio.sleep(_STEP_SECONDS)
        raise _FailedError(
            f"the new worker (process {new.pid}) was not ready within {START_SECONDS:g} s"
        )

    async def _end(self, process: Process) -> None:
        """Have a worker drain, and wait until it is gone."""
        _send(process, signal.SIGTERM)
        deadline = monotonic() + self._drain_seconds
        while process.is_alive():
            if monotonic() > deadline:
                logger.warning("Reload: process %d did not end by itself; killed", process.pid)
                _send(process, signal.SIGKILL)
                deadline = float("inf")
            await asyncio.sleep(_STEP_SECONDS)
        self._apart.pop(process.pid, None)

    def _hand_back(self, *, watcher: Watcher, **_: Any) -> bool:  # noqa: ANN401 - circus's own
        """Let circus, which ends all workers, end those of whom it does not know as well."""
        watcher.processes.update(self._apart)
        self._apart.clear()
        if self._task is not None:
            self._task.cancel()
        return True


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _send(process: Process, number: int) -> None:
    with suppress(psutil.Error, ProcessLookupError):
        process.send_signal(number)
