"""The end of a worker whose supervisor has died without a word."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Final

__all__ = ["end_with_the_parent"]

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0


def end_with_the_parent() -> None:
    """End this process, as on SIGTERM, soon after the one that started it is gone.

    Killed with -9, or by the kernel for its memory, a supervisor tells its workers nothing. They
    would go on, hold the port against the next start, and be replaced by nobody.
    """
    parent = os.getppid()
    loop = asyncio.get_running_loop()

    def look() -> None:
        if os.getppid() == parent:
            loop.call_later(LOOK_SECONDS, look)
        else:
            logger.critical("The supervisor is gone; this worker drains and ends")
            os.kill(os.getpid(), signal.SIGTERM)

    loop.call_later(LOOK_SECONDS, look)
