from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from pydantic import ValidationError

from churn_serving.context import REQUEST
from churn_serving.schema import Customer
from churn_serving.settings import Settings
from churn_serving.telemetry import log
from churn_serving.telemetry.log import _FOREIGN, configure_logging, flush_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 60  # for what comes at once, on a machine that is not too busy
SECRET = "4711.25"  # noqa: S105 - a customer's figure, not a password

Out = TypeVar("Out", bound="Output")

ours = logging.getLogger("churn_serving.somewhere")


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the logging of the other tests as it was."""
    monkeypatch.setattr(log, "_PATIENCE_SECONDS", PATIENCE_SECONDS)
    loggers = [logging.getLogger(name) for name in ("", "churn_serving", *_FOREIGN)]
    before = [(each.level, each.propagate, list(each.handlers)) for each in loggers]
    yield
    flush_logging()
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


class Output(io.StringIO):
    """What a process has written."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def lines(self) -> list[str]:
        flush_logging()
        return self.getvalue().splitlines()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def event(self) -> dict[str, Any]:
        (event,) = self.events
        return event


def _instead_of_stdout(output: Out, monkeypatch: pytest.MonkeyPatch) -> Out:
    # pytest replaces sys.stdout itself, again and again.
    monkeypatch.setattr(log, "sys", SimpleNamespace(stdout=output))
    return output


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    return _instead_of_stdout(Output(), monkeypatch)


@pytest.fixture
def as_json(output: Output) -> Output:
    configure_logging(Settings(log_format="json"))
    return output


@pytest.fixture
def answering() -> Iterator[str]:
    """A request is being answered."""
    token = REQUEST.set((b"request-1", inf))
    yield "request-1"
    REQUEST.reset(token)


def test_a_line_says_what_where_and_when(as_json: Output) -> None:
    before = datetime.now(UTC)
    ours.warning("%d of %d", 1, 2, extra={"seconds": 0.5, "path": "/predict"})
    event = as_json.event
    when = datetime.fromisoformat(event.pop("timestamp"))
    assert before <= when <= datetime.now(UTC)
    assert event == {
        "message": "1 of 2",
        "level": "warning",
        "logger": "churn_serving.somewhere",
        "pid": os.getpid(),
        "seconds": 0.5,
        "path": "/predict",
    }


def test_a_line_is_one_line_whatever_is_in_it(as_json: Output) -> None:
    ours.info("a\nb", extra={"path": 'c\n{"message": "forged"}', "what": object()})
    assert as_json.event["message"] == "a\nb"


def test_a_line_says_when_it_came_up_and_not_when_it_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stalled = _instead_of_stdout(Stalled(), monkeypatch)
    configure_logging(Settings(log_format="json"))
    ours.info("first")
    ours.info("second")
    said = datetime.now(UTC)
    stalled.go_on.set()
    assert all(datetime.fromisoformat(event["timestamp"]) <= said for event in stalled.events)


def test_every_line_of_a_request_carries_its_id_whoever_writes_it(as_json: Output) -> None:
    async def answer(request_id: str) -> None:
        REQUEST.set((request_id.encode(), inf))
        for name in (
            "churn_serving.inference.batching",
            "bentoml",
            "uvicorn.error",
            "some.library",
        ):
            logging.getLogger(name).warning(request_id)
            await asyncio.sleep(0)

    async def scenario() -> None:
        await asyncio.gather(*(answer(f"request-{n}") for n in range(20)))

    asyncio.run(scenario())
    ours.info("of no request")
    *answered, other = as_json.events
    assert len(answered) == 80
    assert all(event["request_id"] == event["message"] for event in answered)
    assert "request_id" not in other


def test_lines_after_the_flush_carry_it_too(as_json: Output, answering: str) -> None:
    flush_logging()
    ours.info("the last words")
    assert as_json.event["request_id"] == answering


def _refuse() -> None:
    raise ValueError(f"total_charges is {SECRET}")


def _fail() -> None:
    try:
        _refuse()
    except ValueError as error:
        wrapped = KeyError(SECRET)
        wrapped.add_note(SECRET)
        raise wrapped from error


def _log_a_failure(level: int) -> None:
    try:
        _fail()
    except KeyError:
        ours.log(level, "It failed", exc_info=True)


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL])
@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.usefixtures("answering")
def test_while_a_request_is_answered_an_exception_is_told_without_its_message(
    log_format: Any, level: int, output: Output
) -> None:
    configure_logging(Settings(log_format=log_format))
    _log_a_failure(level)
    text = "\n".join(output.lines)
    assert SECRET not in text
    # What an engineer needs is there: the classes and the places, the first cause first.
    assert text.index("builtins.ValueError") < text.index("builtins.KeyError")
    assert "test_log.py" in text
    assert "_fail" in text


@pytest.mark.usefixtures("answering")
def test_what_pydantic_says_of_a_customer_is_not_told(as_json: Output) -> None:
    with pytest.raises(ValidationError, match=SECRET) as refused:
        Customer.model_validate({"total_charges": SECRET, "payment_method": SECRET})
    ours.error("Invalid", exc_info=refused.value)
    event = as_json.event
    assert SECRET not in json.dumps(event)
    assert "ValidationError" in event["exception"]


@pytest.mark.usefixtures("answering")
def test_at_debug_the_message_of_an_exception_is_told(output: Output) -> None:
    configure_logging(Settings(log_format="json", log_level="debug"))
    _log_a_failure(logging.DEBUG)
    _log_a_failure(logging.ERROR)
    told, hidden = output.events
    assert f"total_charges is {SECRET}" in told["exception"]
    assert SECRET not in hidden["exception"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_of_no_request_an_exception_is_told_with_its_message(
    log_format: Any, output: Output
) -> None:
    configure_logging(Settings(log_format=log_format))
    _log_a_failure(logging.ERROR)
    text = "\n".join(output.lines)
    assert f"total_charges is {SECRET}" in text
    assert "KeyError" in text
    assert "Traceback" in text


def test_an_exception_that_there_is_not_harms_nobody(as_json: Output) -> None:
    ours.error("Nothing was raised", exc_info=True)
    ours.info("next")
    assert [event["message"] for event in as_json.events] == ["Nothing was raised", "next"]


def test_a_line_that_cannot_be_written_harms_no_other(
    as_json: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    class Unwritable:
        def __repr__(self) -> str:
            raise RuntimeError("not a word")

    ours.info("first", extra={"what": Unwritable()})
    ours.info("next")
    assert as_json.event["message"] == "next"
    assert "not a word" in capsys.readouterr().err


@pytest.mark.parametrize("stdout", [None, "/dev/full"])
def test_a_process_without_a_place_for_its_log_does_without(
    stdout: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Path(stdout).open("w", encoding="utf-8") if stdout else None  # noqa: SIM115 - below
    monkeypatch.setattr(sys, "stdout", stream)
    configure_logging(Settings())
    ours.info("nobody reads this")
    flush_logging()
    if stream is not None:
        with suppress(OSError):
            stream.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["bentoml", "bentoml.serve", "uvicorn.error", "circus", "asyncio"])
def test_the_lines_of_others_go_the_same_way(name: str, output: Output) -> None:
    elsewhere = Output()
    logging.getLogger(name).addHandler(handler := logging.StreamHandler(elsewhere))
    try:
        configure_logging(Settings(log_format="json"))
        logging.getLogger(name).warning("theirs")
    finally:
        logging.getLogger(name).removeHandler(handler)
    event = output.event
    assert (event["message"], event["logger"]) == ("theirs", name)
    assert (elsewhere.getvalue() == "") == (name in _FOREIGN)


def test_uvicorn_has_nowhere_to_write_a_line_for_each_request(as_json: Output) -> None:
    access = logging.getLogger("uvicorn.access")
    access.addHandler(logging.StreamHandler(as_json))
    configure_logging(Settings(log_format="json"))
    assert not access.propagate
    # pytest adds its own to a logger that does not propagate.
    assert logging.StreamHandler not in map(type, access.handlers)


def test_what_there_was_to_write_with_is_replaced(output: Output) -> None:
    before = Output()
    logging.getLogger().addHandler(logging.StreamHandler(before))
    configure_logging(Settings(log_format="json"))
    ours.warning("once")
    assert output.event["message"] == "once"
    assert before.getvalue() == ""


def test_configured_twice_a_line_is_still_written_once(as_json: Output) -> None:
    configure_logging(Settings(log_format="json"))
    ours.info("once")
    assert as_json.event["message"] == "once"


def test_the_handlers_of_a_test_runner_survive(
    output: Output, caplog: pytest.LogCaptureFixture
) -> None:
    configure_logging(Settings(log_format="json"))
    assert caplog.handler in logging.getLogger().handlers
    ours.info("for both")
    assert [record.message for record in caplog.records] == ["for both"]
    assert output.event["message"] == "for both"


@pytest.mark.parametrize(
    ("log_level", "expected"),
    [
        ("debug", ["ours 10", "ours 20", "bentoml 20", "ours 30", "bentoml 30", "other 30"]),
        ("info", ["ours 20", "bentoml 20", "ours 30", "bentoml 30", "other 30"]),
        ("warning", ["ours 30", "bentoml 30", "other 30"]),
        ("error", []),
    ],
)
def test_the_level_is_ours_and_others_are_never_chattier_than_they_should_be(
    log_level: Any, expected: list[str], output: Output
) -> None:
    configure_logging(Settings(log_format="json", log_level=log_level))
    names = {"ours": "churn_serving.x", "bentoml": "bentoml.x", "other": "some.library"}
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        for short, name in names.items():
            logging.getLogger(name).log(level, "%s %d", short, level)
    assert [event["message"] for event in output.events] == expected


@pytest.mark.parametrize(
    ("log_format", "terminal", "is_json"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("json", True, True),
        ("console", False, False),
    ],
)
def test_machines_get_json_and_people_columns(
    log_format: Any, *, terminal: bool, is_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = _instead_of_stdout(Output(terminal=terminal), monkeypatch)
    configure_logging(Settings(log_format=log_format))
    ours.info("Hello", extra={"customers": 3})
    (line,) = output.lines
    assert line.startswith("{") == is_json
    assert "Hello" in line
    assert "customers" in line
    assert ("\x1b[" in line) == (terminal and not is_json)  # colours


class Stalled(Output):
    """Output that takes nothing until it may go on, like a log collector that hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.reached = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.go_on.wait(PATIENCE_SECONDS)
        return super().write(text)


def test_output_that_stalls_stalls_nobody_and_what_is_dropped_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stalled = _instead_of_stdout(Stalled(), monkeypatch)
    monkeypatch.setattr(log, "_QUEUED_LINES", 10)
    configure_logging(Settings(log_format="json"))
    ours.info("held")
    assert stalled.reached.wait(PATIENCE_SECONDS)
    # A line that had to wait for the output would never come back from here.
    for number in range(35):
        ours.info("line %d", number)
    assert stalled.getvalue() == ""
    stalled.go_on.set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "line 9" not in stalled.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ours.info("after")
    messages = [event["message"] for event in stalled.events]
    assert messages == [
        "held",
        *(f"line {number}" for number in range(10)),
        "after",
        "25 log lines were dropped",
    ]


def test_a_log_that_nobody_reads_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stalled = threading.Event()

    class Stalled(io.StringIO):
        def write(self, _: str) -> int:
            stalled.wait()
            return 0

    monkeypatch.setattr(log, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(sys, "stdout", Stalled())
    configure_logging(Settings())
    try:
        ours.warning("nobody will ever read this")
        flush_logging()  # does not wait for ever, or this test would
        ours.warning("nor this")  # which is not waited for, either
    finally:
        stalled.set()
