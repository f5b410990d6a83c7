"""One way of logging for our lines, BentoML's and uvicorn's.

The code logs with the standard library, ``extra`` holding the figures; structlog writes the lines:
JSON for machines, columns for a terminal. They are written by a thread of their own, so that a log
collector that stalls stalls nobody else; lines that it cannot keep up with are dropped and counted.
"""

from __future__ import annotations

import atexit
import logging
import queue
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from threading import Thread
from typing import TYPE_CHECKING, Final, TextIO

import structlog

from churn_serving.context import request_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import EventDict, Processor

    from churn_serving.settings import Settings

__all__ = ["configure_logging", "flush_logging"]

_QUEUED_LINES: Final = 10_000
_PATIENCE_SECONDS: Final = 1.0
_DROPPED: Final = "%d log lines were dropped"
_FOREIGN: Final = ("bentoml", "uvicorn", "uvicorn.error", "uvicorn.access", "circus")


def configure_logging(settings: Settings) -> None:
    """Send every line of this process through one handler, in place of those there were."""
    flush_logging()
    level = getattr(logging, settings.log_level.upper())
    handler: logging.Handler = logging.NullHandler()
    if sys.stdout is not None:  # as in a process that was started without one
        terminal = sys.stdout.isatty()
        as_json = settings.log_format == "json" or (settings.log_format == "auto" and not terminal)
        handler = _Lines(sys.stdout)
        handler.setFormatter(_formatter(as_json=as_json, colors=terminal))
    root = logging.getLogger()
    for logger in (root, *map(logging.getLogger, _FOREIGN)):
        for old in list(logger.handlers):
            # Not those of a test runner, which are of other kinds.
            if type(old) in {logging.StreamHandler, _Lines}:
                logger.removeHandler(old)
    for name in _FOREIGN:
        logging.getLogger(name).propagate = True
    # uvicorn formats a line for each request even where the level then drops it. Without a handler
    # to reach, it does not: 7 of 54 us a request.
    logging.getLogger("uvicorn.access").propagate = False
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("bentoml").setLevel(max(level, logging.INFO))
    logging.getLogger("churn_serving").setLevel(level)
    root.addHandler(_Background(handler))


def flush_logging() -> None:
    """Write what is still queued, and each further line at once: the process is about to end."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Background):
            root.removeHandler(handler)
            root.addHandler(handler.stop())


class _Lines(logging.StreamHandler[TextIO]):
    """Writes lines, as far as the disk is not full and the reader not gone."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or lose it without a traceback in its place."""
        try:
            self.stream.write(self.format(record) + self.terminator)
            self.stream.flush()
        except OSError:
            pass
        except Exception:  # noqa: BLE001 - what a line holds may raise anything
            self.handleError(record)


class _Background(QueueHandler):
    """Hands records to a thread that writes them."""

    def __init__(self, target: logging.Handler) -> None:
        self._lines: queue.Queue[logging.LogRecord | None] = queue.Queue(_QUEUED_LINES)
        super().__init__(self._lines)
        self._target = target
        self._dropped = 0
        # A daemon: it must not keep a process alive whose log nobody reads any more.
        self._writer = Thread(target=self._write, name="log", daemon=True)
        self._writer.start()
        atexit.register(self.stop)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Note which request the line belongs to; the thread that writes it could not know."""
        record.request_id = request_id()
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue the record, or drop it rather than wait."""
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            self._dropped += 1
            return
        if self._dropped and self._lines.qsize() < _QUEUED_LINES // 2:
            dropped, self._dropped = self._dropped, 0
            logging.getLogger(__name__).warning(_DROPPED, dropped)

    def _write(self) -> None:
        while (record := self._lines.get()) is not None:
            self._target.handle(record)

    def stop(self) -> logging.Handler:
        """End the thread once all is written, or soon; return the handler it wrote with."""
        atexit.unregister(self.stop)
        with suppress(queue.Full):
            self._lines.put(None, timeout=_PATIENCE_SECONDS)
            self._writer.join(_PATIENCE_SECONDS)
        if self._writer.is_alive():
            return logging.NullHandler()  # whoever reads the log has stalled
        if self._dropped:
            self._target.handle(
                logging.makeLogRecord(
                    {
                        "name": __name__,
                        "levelno": logging.WARNING,
                        "levelname": "WARNING",
                        "msg": _DROPPED,
                        "args": (self._dropped,),
                    }
                )
            )
            self._dropped = 0
        return self._target


def _formatter(*, as_json: bool, colors: bool) -> logging.Formatter:
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _add_request_id,
        _add_origin,
        _describe_exception,
    ]
    last: Sequence[Processor] = (
        [structlog.processors.EventRenamer("message"), structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0)]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _add_origin(_: object, __: str, event: EventDict) -> EventDict:
    """Say when and in which process a line came up, not when it was written."""
    record: logging.LogRecord = event["_record"]
    event["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat()
    event["pid"] = record.process
    return event


def _add_request_id(_: object, __: str, event: EventDict) -> EventDict:
    # Handed over by the queue, or, once that has been stopped, still in the context.
    found = event.pop("request_id", None) or request_id()
    if found is not None:
        event["request_id"] = found
    return event


def _describe_exception(_: object, __: str, event: EventDict) -> EventDict:
    """Write an exception out; while answering a request without its message.

    A message may quote what was sent, which is a customer's data.
    """
    error = event["_record"].exc_info and event["_record"].exc_info[1]
    if not error:
        return event
    event.pop("exc_info", None)
    if "request_id" not in event or event["level"] == "debug":
        event["exception"] = "".join(traceback.format_exception(error)).rstrip()
        return event
    lines: list[str] = []
    while error is not None:
        frames = traceback.format_tb(error.__traceback__)
        lines[:0] = [*frames, f"{type(error).__module__}.{type(error).__qualname__}\n"]
        error = error.__cause__
    event["exception"] = "".join(lines).rstrip()
    return event
