"""What BentoML's supervisor, which only starts the workers, does differently for us."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from bentoml.exceptions import BentoMLException

from churn_serving.errors import ChurnServingError
from churn_serving.runtime.addresses import expect_unix_socket
from churn_serving.runtime.reload import RollingReload
from churn_serving.telemetry.log import configure_logging
from churn_serving.telemetry.process import raise_descriptor_limit

if TYPE_CHECKING:
    from types import TracebackType

    from circus.controller import Controller
    from circus.sighandler import SysHandler

    from churn_serving.runtime.assemble import Runtime

__all__ = ["prepare_supervisor"]

logger = logging.getLogger(__name__)

CHECK_SECONDS: Final = 0.5
_REASONS: Final = {
    errno.EADDRINUSE: "The port is taken; choose another: --port 3001, or make serve PORT=3001.",
    errno.EACCES: "This user may not listen on that port; choose one from 1024 with --port.",
    errno.EADDRNOTAVAIL: "The host is no address of this machine; choose another with --host.",
}
BUSY_SECONDS: Final = 0.02
NEVER: Final = -1
"""Tells circus not to look at all."""


def prepare_supervisor(runtime: Runtime) -> None:
    """Set up the process that is about to start the workers, and try the model once.

    Raises:
        BentoMLException: The model cannot be loaded, or the services would meet on TCP: no worker
            is started.
    """
    settings = runtime.settings
    try:
        if runtime.is_split:
            expect_unix_socket()
        configure_logging(settings)
        _try_the_model(runtime)
    except ChurnServingError as error:
        # BentoML shows its own exceptions as one line, and others as a traceback.
        raise BentoMLException(str(error)) from None
    raise_descriptor_limit()
    _replace_dead_workers_sooner()
    _explain_an_unusable_address()
    _hear_every_signal(RollingReload(runtime))


def _try_the_model(runtime: Runtime) -> None:
    if runtime.model.is_pickled:
        logger.warning(
            "The model %s is unpickled and run by scikit-learn, as CHURN_ALLOW_PICKLE allows: its "
            "file can run code in this service",
            runtime.model.tag,
        )
    else:  # scikit-learn would stay in this process's memory
        runtime.load()
    if runtime.state.card is None:
        logger.info(
            "The model %s has no card: GET /model answers 404, all else is served; a model that is "
            "trained now gets one",
            runtime.model.tag,
        )
    if not runtime.model.has_reasons:
        logger.info(
            "The model %s gives no reasons: all else is served; a model that is trained now does, "
            "and so does one that is registered with a table (--data)",
            runtime.model.tag,
        )


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


def _hear_every_signal(reload: RollingReload) -> None:
    """Answer SIGHUP with a rolling reload, and SIGTERM in any case.

    circus drops a signal that comes while it is busy, be it with its regular look at the workers.
    """
    from circus.client import make_json  # noqa: PLC0415 - only the supervisor needs them
    from circus.sighandler import SysHandler  # noqa: PLC0415

    async def end(controller: Controller) -> None:
        arbiter = controller.arbiter
        while not arbiter._stopping:  # noqa: SLF001 - circus tells nobody
            if arbiter._exclusive_running_command is None:  # noqa: SLF001 - likewise
                controller.dispatch((None, make_json("quit")))
                return
            await asyncio.sleep(BUSY_SECONDS)

    def quit_in_any_case(self: SysHandler) -> None:
        self.controller.loop.add_callback_from_signal(end, self.controller)

    def reload_one_by_one(self: SysHandler) -> None:
        self.controller.loop.add_callback_from_signal(reload.start, self.controller.arbiter)

    SysHandler.quit = quit_in_any_case
    SysHandler.reload = reload_one_by_one
