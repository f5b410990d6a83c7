"""More requests than a server can answer, and what comes back."""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.errors import BenchmarkError
from bench.process import CLIENT_CPU, pinned

if TYPE_CHECKING:
    from bench.process import Running

__all__ = ["CONNECTIONS", "Overload", "overload"]

CONNECTIONS: Final = 512
FACTOR: Final = 2.0
PATIENCE_SECONDS: Final = 5
_OK: Final = 200
_LOST: Final = -1
# So h2load has an answer whose status line ends after the number, as that of TorchServe's 200 does.
_NO_REASON: Final = 0
_SPARE_SECONDS: Final = 15
_LAST_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Overload:
    """What a server did at ``FACTOR`` times the rate that it had reached.

    Attributes:
        offered: Requests a second that were to be sent, over ``CONNECTIONS`` connections that send
            one at a time: a server that lets all of them wait slows them down.
        answered: Requests a second that were answered in one way or another.
        statuses: How many answers of each; ``none`` where the connection was lost instead, or
            nothing came for ``PATIENCE_SECONDS``.
        accepted: Requests a second answered with 200.
        p50_ms: Half of those came within this.
        p99_ms: 99 of 100 of those came within this.
    """

    offered: float
    answered: float
    statuses: dict[str, int]
    accepted: float
    p50_ms: float | None
    p99_ms: float | None


def overload(here: Running, path: str, body: bytes, *, capacity: float, seconds: float) -> Overload:
    """Let h2load offer twice the capacity over HTTP/1.1.

    Args:
        here: The server.
        path: Of the prediction.
        body: Of each request.
        capacity: Requests a second.
        seconds: How long.
    """
    offered = FACTOR * capacity
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder, "body.json"), Path(folder, "answers.tsv")
        data.write_bytes(body)
        lines = _offer(here.origin + path, data, log, offered=offered, seconds=seconds)
    rows = np.loadtxt(lines, dtype=np.int64, delimiter="\t", usecols=(1, 2), ndmin=2)
    rows[rows[:, 0] == _NO_REASON, 0] = _OK
    statuses = Counter(rows[:, 0].tolist())
    latencies = rows[rows[:, 0] == _OK, 1] / 1e3
    p50, p99 = np.percentile(latencies, [50, 99]).tolist() if len(latencies) else (None, None)
    return Overload(
        offered=offered,
        answered=sum(statuses[status] for status in statuses if status != _LOST) / seconds,
        statuses={
            "none" if status == _LOST else str(status): count
            for status, count in sorted(statuses.items())
        },
        accepted=len(latencies) / seconds,
        p50_ms=p50,
        p99_ms=p99,
    )


def _offer(url: str, data: Path, log: Path, *, offered: float, seconds: float) -> list[str]:
    """Return a line for each request: when, status, microseconds."""
    command = [
        *("h2load", "--h1", "--threads=1", f"--clients={CONNECTIONS}"),
        *(f"--duration={max(1, round(seconds))}", f"--rps={offered / CONNECTIONS:.4f}"),
        f"--connection-inactivity-timeout={PATIENCE_SECONDS}",
        *(f"--data={data}", f"--log-file={log}", "--header=Content-Type: application/json"),
        url,
    ]
    with pinned({CLIENT_CPU}):
        client = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    try:
        said, _ = client.communicate(timeout=seconds + _SPARE_SECONDS)
    except subprocess.TimeoutExpired:
        # It waits for answers that never come; what has come is in its log.
        client.kill()
        said, _ = client.communicate()
    if not (log.exists() and b"\n" in log.read_bytes()):
        raise BenchmarkError(f"h2load failed: {said.strip()[-_LAST_CHARACTERS:]}")
    # Its last line may be half of one.
    return log.read_text().rpartition("\n")[0].splitlines()
