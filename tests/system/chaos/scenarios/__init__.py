"""What can go wrong, each played on a server of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.system.chaos.scenarios.breaker import breaker
from tests.system.chaos.scenarios.broken_files import broken_files
from tests.system.chaos.scenarios.bulk_kills import bulk_kills
from tests.system.chaos.scenarios.collector import collector
from tests.system.chaos.scenarios.executor_kills import executor_kills
from tests.system.chaos.scenarios.garbage import garbage
from tests.system.chaos.scenarios.hang import hang
from tests.system.chaos.scenarios.kill_supervisor import kill_supervisor
from tests.system.chaos.scenarios.kill_worker import kill_worker
from tests.system.chaos.scenarios.million import million
from tests.system.chaos.scenarios.overload import overload
from tests.system.chaos.scenarios.pause import pause
from tests.system.chaos.scenarios.refused_bodies import refused_bodies
from tests.system.chaos.scenarios.reload import reload
from tests.system.chaos.scenarios.sigterm import sigterm
from tests.system.chaos.scenarios.slow_clients import slow_clients

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.system.chaos.report import Report
    from tests.system.chaos.stage import Stage

__all__ = ["SCENARIOS"]

SCENARIOS: Final[Mapping[str, Callable[[Stage], Report]]] = {
    scenario.__name__: scenario
    for scenario in (
        sigterm,
        reload,
        kill_worker,
        kill_supervisor,
        pause,
        overload,
        breaker,
        hang,
        slow_clients,
        garbage,
        refused_bodies,
        broken_files,
        collector,
        million,
        bulk_kills,
        executor_kills,
    )
}
