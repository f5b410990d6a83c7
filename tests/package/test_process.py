from __future__ import annotations

import errno
import os
import resource
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from churn_serving.telemetry import process
from churn_serving.telemetry.process import _WORKER, Process, Siblings, raise_descriptor_limit
from tests.doubles import Clock

PATIENCE = Siblings.PATIENCE


def test_a_process_knows_what_the_operating_system_says_of_it() -> None:
    own = Process()
    known = psutil.Process()
    assert own.started == known.create_time()
    assert own.memory_bytes == pytest.approx(known.memory_info().rss, rel=0.2)
    assert own.cpu_seconds > 0
    assert own.open_fds > 0
    least = time.time() - known.create_time()
    assert least <= own.uptime_seconds <= time.time() - known.create_time()


@pytest.mark.parametrize(
    ("number", "is_out"), [(errno.EMFILE, True), (errno.ENFILE, True), (errno.ENOENT, False)]
)
def test_a_process_knows_when_it_can_open_nothing_more(
    number: int,
    is_out: bool,  # noqa: FBT001 - pytest passes it by name
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Process()
    assert not own.is_out_of_descriptors

    def fail(*_: object) -> None:
        raise OSError(number, "cannot be opened")

    monkeypatch.setattr(os, "open", fail)
    assert own.is_out_of_descriptors == is_out


@pytest.mark.parametrize("refusal", [None, ValueError, OSError])
def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(
    refusal: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def raise_limit(_: int, limits: tuple[int, int]) -> None:
        asked.append(limits)
        if refusal:
            raise refusal

    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 5000))
    monkeypatch.setattr(resource, "setrlimit", raise_limit)
    raise_descriptor_limit()
    assert asked == [(5000, 5000)]


def test_a_process_knows_how_busy_it_was_since_the_last_look() -> None:
    own = Process()
    before = own.cpu_seconds
    deadline = time.process_time() + 0.2
    while time.process_time() < deadline:
        pass
    own.refresh()
    assert own.cpu_seconds >= before + 0.15
    busy = own.cpu_percent
    assert busy > 5
    time.sleep(0.2)
    own.refresh()
    assert own.cpu_percent < busy


def test_an_open_file_is_seen() -> None:
    own = Process()
    before = own.open_fds
    read, write = os.pipe()
    own.refresh()
    os.close(read)
    os.close(write)
    assert own.open_fds == before + 2


@dataclass
class Child:
    """A process as psutil shows it."""

    command: list[str] = field(default_factory=lambda: ["python", "-m", _WORKER])
    state: str = psutil.STATUS_SLEEPING

    def status(self) -> str:
        return self.state

    def cmdline(self) -> list[str]:
        return self.command


class Parent:
    """A supervisor whose processes the test starts and kills."""

    def __init__(self, *running: Child) -> None:
        self.running = list(running)
        self.error: Exception | None = None

    def children(self) -> list[Child]:
        if self.error is not None:
            raise self.error
        return self.running


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=clock))
    return clock


def _siblings(parent: Any, *, expected: int) -> Siblings:
    siblings = Siblings(expected=expected)
    siblings._parent = parent
    siblings.refresh()
    return siblings


def _looks(siblings: Siblings, times: int) -> None:
    for _ in range(times):
        siblings.refresh()


def test_nobody_is_missing_while_all_are_there() -> None:
    assert not _siblings(Parent(Child(), Child()), expected=2).one_is_missing


def test_a_worker_is_missing_once_it_has_been_dead_for_longer_than_a_replacement_takes() -> None:
    parent = Parent(Child(), Child())
    siblings = _siblings(parent, expected=2)
    parent.running.pop()
    _looks(siblings, PATIENCE - 1)
    assert not siblings.one_is_missing
    _looks(siblings, 1)
    assert siblings.one_is_missing


def test_a_pause_of_the_whole_machine_makes_nobody_missing(clock: Clock) -> None:
    parent = Parent(Child(), Child())
    siblings = _siblings(parent, expected=2)
    parent.running.pop()
    _looks(siblings, 1)
    clock.now += 3600
    assert not siblings.one_is_missing


def test_a_worker_that_is_replaced_in_time_was_never_missing() -> None:
    parent = Parent(Child(), Child())
    siblings = _siblings(parent, expected=2)
    for _ in range(5):
        parent.running.pop()
        _looks(siblings, PATIENCE - 1)
        parent.running.append(Child())
        _looks(siblings, 1)
        assert not siblings.one_is_missing


def test_a_worker_that_comes_back_late_is_no_longer_missing() -> None:
    parent = Parent(Child(), Child())
    siblings = _siblings(parent, expected=2)
    parent.running.pop()
    _looks(siblings, 10)
    assert siblings.one_is_missing
    parent.running.append(Child())
    siblings.refresh()
    assert not siblings.one_is_missing


def test_workers_that_are_still_being_started_are_not_missing() -> None:
    parent = Parent(Child())
    siblings = _siblings(parent, expected=4)
    _looks(siblings, 100)
    assert not siblings.one_is_missing


@pytest.mark.parametrize(
    "instead",
    [Child(state=psutil.STATUS_ZOMBIE), Child(["python", "-m", "something.else"]), Child([])],
    ids=["a zombie", "another program", "a kernel thread"],
)
def test_what_is_no_running_worker_does_not_count(instead: Child) -> None:
    parent = Parent(Child(), Child())
    siblings = _siblings(parent, expected=2)
    parent.running[1] = instead
    _looks(siblings, PATIENCE)
    assert siblings.one_is_missing


def test_a_process_without_a_parent_has_nobody_to_miss() -> None:
    siblings = _siblings(None, expected=2)
    _looks(siblings, 100)
    assert not siblings.one_is_missing


def test_nobody_is_missed_because_the_system_would_not_say() -> None:
    parent = Parent(Child(), Child())
    siblings = _siblings(parent, expected=2)
    parent.error = psutil.AccessDenied()
    _looks(siblings, 10)
    assert not siblings.one_is_missing


def test_the_real_parent_of_this_process_is_looked_at() -> None:
    siblings = Siblings(expected=1)
    assert siblings._parent == psutil.Process().parent()
    siblings.refresh()
    assert not siblings.one_is_missing
