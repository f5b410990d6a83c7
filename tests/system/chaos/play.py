"""Play one scenario, whatever happens in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.errors import BenchmarkError
from tests.system.chaos.report import ChaosError, Report
from tests.system.chaos.scenarios import SCENARIOS
from tests.system.chaos.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["play"]


def _nothing(_: str) -> None:
    pass


def play(
    name: str,
    *,
    folder: Path,
    models: Mapping[str, str],
    quick: bool,
    say: Callable[[str], None] = _nothing,
) -> Report:
    """Play a scenario; one that could not go on has failed.

    Args:
        name: One of ``SCENARIOS``.
        folder: Its own, and empty.
        models: The tags of the registered models.
        quick: Whether the short form is wanted.
        say: Is told what happens.
    """
    start = time.monotonic()
    try:
        report = SCENARIOS[name](Stage(folder=folder, models=models, quick=quick, say=say))
    except (BenchmarkError, ChaosError, OSError) as error:
        report = Report(done="broken off", failures=[f"{type(error).__name__}: {error}"])
    report.seconds = round(time.monotonic() - start, 1)
    return report
