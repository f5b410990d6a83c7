"""What can go wrong, each played on a server of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.chaos.scenarios.breaker import breaker
from tests.chaos.scenarios.broken_files import broken_files
from tests.chaos.scenarios.garbage import garbage
from tests.chaos.scenarios.hang import hang
from tests.chaos.scenarios.kill_worker import kill_worker
from tests.chaos.scenarios.million import million
from tests.chaos.scenarios.overload import overload
from tests.chaos.scenarios.sigterm import sigterm
from tests.chaos.scenarios.slow_clients import slow_clients

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.chaos.report import Report
    from tests.chaos.stage import Stage

__all__ = ["SCENARIOS"]

SCENARIOS: Final[Mapping[str, Callable[[Stage], Report]]] = {
    scenario.__name__: scenario
    for scenario in (
        sigterm,
        kill_worker,
        overload,
        breaker,
        hang,
        slow_clients,
        garbage,
        broken_files,
        million,
    )
}
