from __future__ import annotations

import json
import os
import platform
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from _bentoml_impl.server import serving
from bentoml.exceptions import BentoMLException

from churn_serving.errors import SettingsError
from churn_serving.runtime import addresses
from churn_serving.runtime.addresses import (
    RUNNER,
    expect_unix_socket,
    require_unix_socket,
)
from churn_serving.runtime.supervisor import prepare_supervisor
from churn_serving.runtime.worker import Worker
from churn_serving.settings import Settings
from tests.doubles import MODEL, service_state

if TYPE_CHECKING:
    from pathlib import Path

    from churn_serving.inference.batching import Runner

WSL = "5.15.90.1-microsoft-standard-WSL2"


def given(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    """Be a worker whose supervisor has given the runner this address."""
    monkeypatch.setenv("BENTOML_RUNNER_MAP", json.dumps({RUNNER: address}))


def taken_by_bentoml(folder: Path) -> str:
    """Return the address that BentoML itself would take for an inner service."""
    with ExitStack() as ports:
        service: Any = SimpleNamespace(name=RUNNER)
        address, socket = serving._get_server_socket(service, str(folder), ports, 1)
        socket.close()
    return str(address)


@pytest.fixture(params=["linux", "windows", "wsl", "no unix sockets", "an empty variable"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Be on one machine after the other, for BentoML and for us."""
    monkeypatch.delenv("BENTOML_NO_UDS", raising=False)
    name: str = request.param
    # BentoML looks once, when it is imported.
    monkeypatch.setattr(serving, "WINDOWS", name == "windows")
    monkeypatch.setattr(serving, "IS_WSL", name == "wsl")
    if name == "windows":
        monkeypatch.setattr(addresses, "os", SimpleNamespace(name="nt", environ=os.environ))
    elif name == "wsl":
        monkeypatch.setattr(platform, "release", lambda: WSL)
    elif name != "linux":
        monkeypatch.setenv("BENTOML_NO_UDS", "1" if name == "no unix sockets" else "")
    return name


def test_the_supervisor_foretells_what_bentoml_does(place: str, tmp_path: Path) -> None:
    if taken_by_bentoml(tmp_path).startswith("file:///"):
        assert place == "linux"
        expect_unix_socket()
    else:
        with pytest.raises(
            SettingsError, match="WSL" if place in {"windows", "wsl"} else "BENTOML_NO_UDS is"
        ):
            expect_unix_socket()


def test_the_supervisor_refuses_in_one_line_before_it_sets_anything_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENTOML_NO_UDS", "1")
    runtime: Any = SimpleNamespace(is_split=True, settings=Settings(topology="split"))
    with pytest.raises(BentoMLException, match=r"^CHURN_TOPOLOGY=split .* unpickle [^\n]*\.$"):
        prepare_supervisor(runtime)


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:3001", "http://10.0.0.1:80", "file://host/socket", "", None]
)
def test_a_worker_refuses_what_is_no_unix_socket(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, address)
    with pytest.raises(SettingsError, match=f"{RUNNER} is at {address or 'no address'}: "):
        require_unix_socket()


def test_a_worker_that_nobody_gave_an_address_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENTOML_RUNNER_MAP", raising=False)
    with pytest.raises(SettingsError, match="no address"):
        require_unix_socket()


def test_a_worker_takes_a_unix_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given(monkeypatch, taken_by_bentoml(tmp_path))
    require_unix_socket()


def test_a_worker_that_refuses_stays_not_ready_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load() -> tuple[Runner, None]:
        pytest.fail("a runner was made")

    given(monkeypatch, "tcp://127.0.0.1:3001")
    state = service_state()
    Worker(state=state, model=MODEL, settings=Settings(topology="split")).load(load)
    assert state.phase == "failed"
    assert "unpickle" in (state.failure or "")
