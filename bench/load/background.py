"""Work that goes on in a thread while something else is measured."""

from __future__ import annotations

import time
from threading import Event, Thread
from time import perf_counter
from typing import TYPE_CHECKING, Final, Self

from bench.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Background", "Pauses", "overlap"]


class Background(Thread):
    """Work in a thread, from the beginning of a ``with`` block to its end; errors come out."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopping = Event()
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self) -> None:
        """Do the work; part of ``Thread``."""
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - raised again where it is noticed
            self._error = error

    def work(self) -> None:
        """Go on until ``stopping`` is set, or until all is done."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ask the work to end, and wait until it has."""
        self.stopping.set()
        self.finish()

    def finish(self) -> None:
        """Wait until the work has ended by itself."""
        self.join()
        if self._error is not None:
            raise BenchmarkError(f"The client failed: {self._error!r}") from self._error


class Pauses(Background):
    """Notices when this process gets no CPU, so that the server is not blamed for it."""

    TICK: Final = 0.002
    LATE: Final = 0.005

    def __init__(self) -> None:
        super().__init__()
        self._gaps: list[tuple[float, float]] = []

    def work(self) -> None:
        """See ``Background``."""
        last = perf_counter()
        while not self.stopping.is_set():
            time.sleep(self.TICK)
            now = perf_counter()
            if now - last > self.TICK + self.LATE:
                self._gaps.append((last, now))
            last = now

    def within(self, start: float, end: float) -> float:
        """Return the seconds of an interval that were lost to pauses."""
        return overlap(self._gaps, start, end)


def overlap(pauses: Iterable[tuple[float, float]], start: float, end: float) -> float:
    """Return the seconds of an interval that lie in pauses."""
    return sum(max(0.0, min(end, b) - max(start, a)) for a, b in pauses)
