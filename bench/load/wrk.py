"""As many requests as a server takes: wrk, on a core of its own."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.errors import BenchmarkError
from bench.load.background import Background
from bench.process import CLIENT_CPU, pinned

if TYPE_CHECKING:
    from bench.process import Running

__all__ = ["Sample", "Stream", "saturate"]

SCRIPT: Final = Path(__file__).with_name("post.lua")

_SPARE_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of wrk saw.

    Attributes:
        requests: Answers.
        seconds: How long it ran.
        errors: Answers other than 2xx and 3xx, and socket errors.
        cpu_us: CPU time of all the server's processes, in microseconds per request.
        p50_ms: Half of the answers came within this.
        p99_ms: 99 of 100 answers came within this.
        max_ms: The slowest answer.
    """

    requests: int
    seconds: float
    errors: int
    cpu_us: float
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def busy(self) -> float:
        """The CPU time that the server got, as a share of one core."""
        return self.cpu_us * self.rate / 1e6


def saturate(here: Running, path: str, bodies: Path, *, connections: int, seconds: float) -> Sample:
    """Let wrk post the bodies for this long.

    Args:
        here: The server.
        path: The route.
        bodies: One JSON document a line.
        connections: Each sends its next request when the last one is answered.
        seconds: How long; wrk takes whole seconds.
    """
    command = [
        *("wrk", "--threads=1", f"--connections={connections}"),
        *(f"--duration={max(1, round(seconds))}s", f"--script={SCRIPT}"),
        *(here.origin + path, "--", str(bodies)),
    ]
    before = here.usage()
    with pinned({CLIENT_CPU}):
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + _SPARE_SECONDS
        )
    after = here.usage()
    if result.returncode:
        raise BenchmarkError(f"wrk failed: {result.stderr.strip() or result.stdout.strip()}")
    seen = json.loads(result.stdout.strip().splitlines()[-1])
    requests = seen["requests"]
    if not requests:
        raise BenchmarkError(f"{here.name} answered nothing to {connections} connections.")
    return Sample(cpu_us=(after.cpu_seconds - before.cpu_seconds) * 1e6 / requests, **seen)


class Stream(Background):
    """Posts the bodies over one connection for some seconds, while something else is measured.

    Args:
        here: The server.
        path: The route.
        bodies: One JSON document a line.
        seconds: How long.
    """

    def __init__(self, here: Running, path: str, bodies: Path, *, seconds: float) -> None:
        super().__init__()
        self._load = partial(saturate, here, path, bodies, connections=1, seconds=seconds)

    def work(self) -> None:
        """See ``Background``; it ends by itself."""
        self.sample = self._load()
