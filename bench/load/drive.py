"""Locust as a process of its own: started, shown, and ended with what there is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from bench.errors import BenchmarkError
from bench.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import Console

__all__ = ["Driven", "drive", "require_locust"]

LOCUSTFILES: Final = "locustfile.py,bench/load/summary.py"

_TOTAL: Final = re.compile(r"^ *Aggregated +(\d+) +(\d+)\(")
"""Locust prints the requests and failures so far, every other second."""
_SENTENCE: Final = "/churn.load: "
"""Before what ``locustfile.py`` has to say."""


@dataclass(frozen=True, slots=True)
class Driven:
    """How it ended.

    Attributes:
        code: Locust's exit code; 0: the limits held.
        sentences: What ``locustfile.py`` said, the last one in the end.
        interrupted: Whether somebody ended it.
    """

    code: int
    sentences: tuple[str, ...]
    interrupted: bool


def require_locust() -> None:
    """Look for Locust, without importing it: it would change this process's sockets and threads.

    Raises:
        BenchmarkError: It is not installed.
    """
    if find_spec("locust") is None:
        raise BenchmarkError("Locust is missing: 'make load' installs it, or pip install locust.")


def drive(host: str, options: Sequence[str], *, output: Path, console: Console) -> Driven:
    """Run Locust until it ends, or until Ctrl-C makes it end.

    Args:
        host: What is under load.
        options: Further options for Locust.
        output: The folder for ``report.html``, ``summary.json`` and ``locust.log``.
        console: Shows how it goes.
    """
    command = [sys.executable, "-m", "locust", "--locustfile", LOCUSTFILES, "--headless"]
    command += ["--host", host, "--html", str(output / "report.html"), *options]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "LOAD_SUMMARY": str(output / "summary.json")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # it gets one Ctrl-C, from here
    )
    assert process.stdout is not None  # noqa: S101 - for mypy: it is a pipe
    sentences: list[str] = []
    interrupted = False
    try:
        with (
            (output / "locust.log").open("w", encoding="utf-8") as log,
            console.status(f"Load on {host}") as status,
        ):

            def follow(lines: Iterable[str]) -> None:
                for line in lines:
                    log.write(line)
                    if total := _TOTAL.match(line):
                        requests, failures = map(int, total.groups())
                        status.update(f"{requests:,} requests, {failures:,} failed")
                    elif _SENTENCE in line:
                        sentences.append(line.partition(_SENTENCE)[2].strip())
                        console.print(sentences[-1], highlight=False)

            try:
                follow(process.stdout)
            except KeyboardInterrupt:
                interrupted = True
                process.send_signal(signal.SIGINT)
                follow(process.stdout)
        return Driven(process.wait(), tuple(sentences), interrupted)
    finally:
        process.kill()
        process.wait()
