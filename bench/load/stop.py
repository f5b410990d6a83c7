"""A server is told to end while it works, and what becomes of the requests that it has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Final

import psutil

from bench.load.answer import OK, request
from bench.load.callers import Callers

if TYPE_CHECKING:
    from bench.process import Running

__all__ = ["Stop", "stop_under_load"]

CALLERS: Final = 32
LOAD_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 40


@dataclass(frozen=True, slots=True)
class Stop:
    """What came of a SIGTERM.

    Attributes:
        in_flight: Requests that had been sent and not been answered then.
        lost: Those of them that were not answered with 200 either.
        seconds: Until the server had ended; None if it had not after ``PATIENCE_SECONDS``.
        exit_code: Negative for a signal; None if it had not ended.
    """

    in_flight: int
    lost: int
    seconds: float | None
    exit_code: int | None


def stop_under_load(here: Running, path: str, body: bytes) -> Stop:
    """Let callers ask without a pause, tell the server to end, and let nobody ask again.

    Args:
        here: The server.
        path: Of the prediction.
        body: Of each request.
    """
    told, good_before = Event(), 0

    def tell() -> None:
        nonlocal good_before
        good_before = callers.statuses[OK]
        here.process.terminate()
        told.set()

    callers = Callers(
        here.port,
        [0.0] * CALLERS,
        what=request("POST", path, body),
        at_end=tell,
        patience=PATIENCE_SECONDS,
    )
    with callers:
        time.sleep(LOAD_SECONDS)
        callers.stopping.set()
        told.wait(PATIENCE_SECONDS)
        begun = time.monotonic()
        try:
            exit_code = here.process.wait(PATIENCE_SECONDS)
            seconds = time.monotonic() - begun
        except psutil.TimeoutExpired:
            exit_code, seconds = None, None
    return Stop(
        callers.in_flight,
        callers.in_flight - (callers.statuses[OK] - good_before),
        seconds,
        exit_code,
    )
