"""What BentoML's supervisor, which only starts the workers, does differently for us."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any, Final

from churn_serving.telemetry.log import configure_logging

if TYPE_CHECKING:
    from types import TracebackType

    from churn_serving.settings import Settings

__all__ = ["prepare_supervisor"]

CHECK_SECONDS: Final = 0.5
_REASONS: Final = {
    errno.EADDRINUSE: "The port is taken; choose another one with --port.",
    errno.EACCES: "This user may not listen on that port; choose one from 1024 with --port.",
    errno.EADDRNOTAVAIL: "The host is no address of this machine; choose another with --host.",
}
NEVER: Final = -1
"""Tells circus not to look at all."""


def prepare_supervisor(settings: Settings) -> None:
    """Set up the process that is about to start the workers."""
    configure_logging(settings)
    _replace_dead_workers_sooner()
    _explain_an_unusable_address()


def _replace_dead_workers_sooner() -> None:
    """Let the supervisor look after its workers twice a second, not every ten.

    With ``--reload`` it does not look at all: the plugin that restarts the workers when a file
    changes gets in the way, a look that fails is logged with its traceback, and a worker that dies
    of a mistake in the file is started again by the save that mends it.
    """
    from circus.arbiter import Arbiter  # noqa: PLC0415 - only the supervisor needs it

    initialize = Arbiter.__init__

    def initialize_with_delay(self: Arbiter, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - circus's own
        reloads = bool(kwargs.get("plugins"))
        kwargs["check_delay"] = NEVER if reloads else CHECK_SECONDS
        initialize(self, *args, **kwargs)

    Arbiter.__init__ = initialize_with_delay


def _explain_an_unusable_address() -> None:
    """Let the supervisor say in one sentence why it cannot listen where it should."""
    usual = sys.excepthook

    def explain(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError) and error.errno in _REASONS:
            sys.stderr.write(f"Error: {_REASONS[error.errno]}\n")
        else:
            usual(kind, error, traceback)

    sys.excepthook = explain
