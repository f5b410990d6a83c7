"""One load on one server: checked first, then driven by wrk on a core of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.errors import BenchmarkError
from benchmarks.process import pinned
from benchmarks.servers import BATCH, CLIENT_CPU, PREDICT, PREDICT_V1, ROOT, Load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.process import Running

__all__ = ["Sample", "check", "drive", "require_wrk"]

SCRIPT: Final = ROOT / "benchmarks" / "wrk" / "post.lua"
TOLERANCE: Final = 1e-9

_SPARE_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of wrk saw.

    Attributes:
        requests: Answers.
        seconds: How long it ran.
        errors: Answers other than 2xx and 3xx, and socket errors.
        cpu_us: CPU time of the server's process tree, in microseconds per request.
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


def require_wrk() -> None:
    """Look for wrk.

    Raises:
        BenchmarkError: It is not installed.
    """
    if shutil.which("wrk") is None:
        raise BenchmarkError("The load generator wrk is missing; on Debian: apt install wrk")


def drive(here: Running, load: Load, *, seconds: float, bodies: Path) -> Sample:
    """Let wrk post the bodies for this long.

    Args:
        here: The server.
        load: The path and the number of connections.
        seconds: How long; wrk takes whole seconds.
        bodies: One JSON document a line.
    """
    command = [
        "wrk",
        "--threads=1",
        f"--connections={load.connections}",
        f"--duration={max(1, round(seconds))}s",
        f"--script={SCRIPT}",
        here.origin + load.path,
        "--",
        str(bodies),
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
    if not seen["requests"]:
        raise BenchmarkError(f"{here.name} answered nothing to {load}.")
    return Sample(
        requests=seen["requests"],
        seconds=seen["seconds"],
        errors=seen["bad_statuses"] + seen["socket_errors"],
        cpu_us=(after.cpu_seconds - before.cpu_seconds) * 1e6 / seen["requests"],
        p50_ms=seen["p50_ms"],
        p99_ms=seen["p99_ms"],
        max_ms=seen["max_ms"],
    )


def check(
    here: Running, path: str, *, bodies: Sequence[bytes], expected: Sequence[Sequence[float]]
) -> float:
    """Compare the server's probabilities with scikit-learn's and return the largest difference.

    Args:
        here: The server.
        path: The route.
        bodies: Some requests.
        expected: The churn probabilities in the answer to each.

    Raises:
        BenchmarkError: They differ by more than ``TOLERANCE``.
    """
    worst = 0.0
    for body, probabilities in zip(bodies, expected, strict=True):
        answered = _READ[path](json.loads(here.post(path, body)))
        for got, wanted in zip(answered, probabilities, strict=True):
            worst = max(worst, abs(got - wanted))
    if not worst <= TOLERANCE:
        raise BenchmarkError(
            f"{here.name} {path} differs from scikit-learn by {worst:.1e}; not measured."
        )
    return worst


def _read_batch(answer: Mapping[str, Any]) -> list[float]:
    return [result["probability"]["churn"] for result in answer["results"]]


_READ: Final = {
    PREDICT: lambda answer: [answer["churn_probability"]],
    PREDICT_V1: lambda answer: [answer["probability"]["churn"]],
    BATCH: _read_batch,
}
