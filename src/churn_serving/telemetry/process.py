"""What the operating system says of this process and of the workers beside it.

Looked up once a second, so that a probe or a scrape costs a few attribute reads.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import Final

import psutil

__all__ = ["Process", "Siblings", "raise_descriptor_limit"]

_WORKER: Final = "_bentoml_impl.worker.service"


try:
    import resource
except ModuleNotFoundError:  # pragma: no cover - Windows, which has no such limit
    resource = None  # type: ignore[assignment] # likewise


def raise_descriptor_limit() -> None:
    """Allow this process, and those it starts, as many open files as the system does."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):  # some systems refuse their own "unlimited"
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Process:
    """This process's own figures, as of the last ``refresh``.

    Attributes:
        started: When it was started, Unix time.
        memory_bytes: Resident memory.
        cpu_seconds: User and system time so far.
        cpu_percent: Of one core, between the last two refreshes.
        open_fds: Open file descriptors.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.started: float = self._process.create_time()
        self.memory_bytes = 0
        self.cpu_seconds = 0.0
        self.cpu_percent = 0.0
        self.open_fds = 0
        self.refresh()

    def refresh(self) -> None:
        """Look the figures up."""
        with self._process.oneshot():
            times = self._process.cpu_times()
            self.memory_bytes = self._process.memory_info().rss
            self.cpu_percent = self._process.cpu_percent()
        self.cpu_seconds = times.user + times.system
        self.open_fds = self._process.num_fds() if hasattr(self._process, "num_fds") else 0

    @property
    def is_out_of_descriptors(self) -> bool:
        """Whether it can open nothing more: libuv closes new connections then, without a word."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return error.errno in (errno.EMFILE, errno.ENFILE)
        return False

    @property
    def uptime_seconds(self) -> float:
        """Seconds since it was started."""
        return time.time() - self.started


class Siblings:
    """The processes that were started beside this one, by the same supervisor.

    Outside a container BentoML's supervisor replaces a worker that has died. Inside it leaves that
    to the platform, which only knows the container: the workers that remain must say so.
    """

    PATIENCE: Final = 3
    """Looks in a row that must find one missing: a replacement takes no longer.

    Looks, not seconds: after a pause of the whole machine nobody has looked for long, which says
    nothing of the workers.
    """

    def __init__(self, *, expected: int) -> None:
        self._parent = psutil.Process().parent()
        self._expected = expected
        self._were_complete = False
        self._missed = 0

    def refresh(self) -> None:
        """Count them. Takes milliseconds on a machine with many processes."""
        try:
            running = [
                child
                for child in (self._parent.children() if self._parent else [])
                if child.status() != psutil.STATUS_ZOMBIE and _WORKER in child.cmdline()
            ]
        except (OSError, psutil.Error):
            # Nothing can be said of them; this one is alive in any case.
            self._missed = 0
            return
        if len(running) >= self._expected:
            self._were_complete = True
            self._missed = 0
        else:
            self._missed += 1

    @property
    def one_is_missing(self) -> bool:
        """Whether one of them has been dead for longer than a replacement takes."""
        return self._were_complete and self._missed >= self.PATIENCE
