"""A server is told to end while it works, and what becomes of the requests that it has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from benchmarks.process import Running

__all__ = ["Stop", "stop_under_load"]

CALLERS: Final = 32
LOAD_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 40
_OK: Final = 200


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
    told, lock = Event(), Lock()
    waiting = in_flight = lost = 0

    def call() -> None:
        nonlocal waiting, lost
        connection = HTTPConnection("127.0.0.1", here.port, timeout=PATIENCE_SECONDS)
        while True:
            with lock:
                if told.is_set():
                    break
                waiting += 1
            try:
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                answered = answer.status == _OK
            except (HTTPException, OSError):
                connection.close()
                answered = False
            with lock:
                waiting -= 1
                lost += told.is_set() and not answered
        connection.close()

    callers = [Thread(target=call, daemon=True) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    time.sleep(LOAD_SECONDS)
    with lock:
        told.set()
        in_flight = waiting
        here.process.terminate()
    begun = time.monotonic()
    try:
        exit_code = here.process.wait(PATIENCE_SECONDS)
        seconds = time.monotonic() - begun
    except psutil.TimeoutExpired:
        exit_code, seconds = None, None
    for caller in callers:
        caller.join()
    return Stop(in_flight, lost, seconds, exit_code)
