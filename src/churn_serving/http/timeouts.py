"""Time-outs for many short waits, at the cost of one timer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["SharedTimeout"]


class SharedTimeout:
    """A time limit that many tasks share: ``with timeout: await ...``.

    ``asyncio.timeout`` sets up and takes down a timer for each use, which costs as much as
    validating a customer. Here all waits have the same limit, so they expire in the order in which
    they began, and one timer for the oldest is enough. A task may be inside only once.

    Args:
        seconds: The limit.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._due[_current_task()] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._expire)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave.

        Raises:
            TimeoutError: The limit was exceeded and the wait has been cancelled.
        """
        task = _current_task()
        expired = self._due.pop(task, None) is None
        if expired and task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        """Cancel the waits that are over, and come back for the next."""
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._due:
            task, due = next(iter(self._due.items()))
            if due > loop.time():
                self._timer = loop.call_at(due, self._expire)
                return
            del self._due[task]
            task.cancel()


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("SharedTimeout needs a task")
    return task
