"""What is compared: every server, how it is started, and what is asked of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOGISTIC: Final = "logistic"
TREE: Final = "hist-gradient-boosting"
MODELS: Final = {LOGISTIC: "churn_logistic", TREE: "churn_hist_gradient_boosting"}
"""``--model`` of train_and_save.py and the name in the model store."""

PREDICT: Final = "/predict"
PREDICT_V1: Final = "/api/v1/predict"
BATCH: Final = "/api/v1/predict/batch"

ONE: Final = 1
MANY: Final = 32

SERVER_CPU: Final = 0
CLIENT_CPU: Final = 1


@dataclass(frozen=True, slots=True)
class Load:
    """One measurement: so many connections ask for this."""

    path: str
    connections: int

    def __str__(self) -> str:
        return f"{self.path} x{self.connections}"


ONE_PREDICT: Final = Load(PREDICT, ONE)
MANY_PREDICT: Final = Load(PREDICT, MANY)
MANY_BATCH: Final = Load(BATCH, MANY)
ALL: Final = tuple(Load(path, n) for path in (PREDICT, PREDICT_V1, BATCH) for n in (MANY, ONE))
SINGLES: Final = (MANY_PREDICT, ONE_PREDICT)


@dataclass(frozen=True, slots=True)
class Server:
    """One way to serve one model.

    Attributes:
        family: What ``--only`` chooses by.
        title: For the tables.
        model: A key of ``MODELS``.
        command: Arguments after the interpreter; ``{port}`` is filled in.
        loads: What is asked of it.
        essential: The loads that a target needs; ``--quick`` asks only these.
        environment: On top of the harness's own.
        cpus: Where it may run.
        constant: It does not predict, so its answers are not checked.
        optional: Left out unless asked for.
    """

    family: str
    title: str
    model: str
    command: tuple[str, ...]
    loads: tuple[Load, ...]
    essential: tuple[Load, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cpus: frozenset[int] = frozenset({SERVER_CPU})
    constant: bool = False
    optional: bool = False

    @property
    def name(self) -> str:
        """Identifies the server in the results."""
        return self.family if self.constant else f"{self.family}/{self.model}"

    def command_line(self, port: int) -> list[str]:
        """Return the command that starts it."""
        return [sys.executable, *(part.format(port=port) for part in self.command)]


def _bentoml(target: str) -> tuple[str, ...]:
    return ("-m", "bentoml", "serve", target, "--port", "{port}")


def _uvicorn(target: str, *options: str) -> tuple[str, ...]:
    return ("-m", "uvicorn", target, "--port", "{port}", *options)


_TUNED: Final = (
    "--loop=uvloop",
    "--http=httptools",
    "--no-access-log",
    "--no-server-header",
    "--no-proxy-headers",
)
_OURS: Final = _bentoml("service.py:ChurnService")
_HAND_TUNED: Final = "benchmarks.peers.hand_tuned"


def _ours(model: str) -> Server:
    return Server(
        "ours",
        "churn-serving",
        model,
        _OURS,
        loads=ALL,
        essential=(*SINGLES, MANY_BATCH) if model == LOGISTIC else SINGLES,
        environment={"CHURN_WORKERS": "1", "CHURN_TOPOLOGY": "embedded"},
    )


def _split(model: str) -> Server:
    return Server(
        "split",
        "churn-serving, model in its own service",
        model,
        _OURS,
        loads=(*SINGLES, MANY_BATCH),
        essential=(MANY_PREDICT,),
        environment={
            "CHURN_WORKERS": "1",
            "CHURN_TOPOLOGY": "split",
            "CHURN_RUNNER_WORKERS": "1",
        },
        optional=True,
    )


def _two_workers(model: str) -> Server:
    return Server(
        "two-workers",
        "churn-serving, two workers on two cores",
        model,
        _OURS,
        loads=(MANY_PREDICT,),
        essential=(MANY_PREDICT,),
        environment={"CHURN_WORKERS": "2", "CHURN_TOPOLOGY": "embedded"},
        cpus=frozenset({SERVER_CPU, CLIENT_CPU}),
        optional=True,
    )


def _textbook(model: str) -> Server:
    return Server(
        "textbook",
        "FastAPI, textbook",
        model,
        _uvicorn("benchmarks.peers.textbook:app"),
        loads=SINGLES,
        essential=SINGLES,
    )


def _hand_tuned(model: str) -> Server:
    return Server(
        "hand-tuned",
        "FastAPI, hand-tuned",
        model,
        _uvicorn(f"{_HAND_TUNED}:app", "--factory", *_TUNED),
        loads=ALL,
        essential=(*SINGLES, MANY_BATCH) if model == LOGISTIC else SINGLES,
    )


def _hand_tuned_lean(model: str) -> Server:
    return Server(
        "hand-tuned-lean",
        "FastAPI, hand-tuned, own metrics",
        model,
        _uvicorn(f"{_HAND_TUNED}:lean_app", "--factory", *_TUNED),
        loads=(MANY_PREDICT, MANY_BATCH) if model == LOGISTIC else (MANY_PREDICT,),
        essential=(),
    )


def _bentoml_defaults(model: str) -> Server:
    return Server(
        "bentoml-defaults",
        "BentoML, defaults",
        model,
        _bentoml("benchmarks.peers.bentoml_defaults:ChurnDefaults"),
        loads=(MANY_PREDICT,),
        essential=(MANY_PREDICT,),
    )


SERVERS: Final[tuple[Server, ...]] = (
    *(
        make(model)
        for make in (
            _ours,
            _split,
            _two_workers,
            _textbook,
            _hand_tuned,
            _hand_tuned_lean,
            _bentoml_defaults,
        )
        for model in MODELS
    ),
    Server(
        "hand-tuned-threadpool",
        "FastAPI, hand-tuned, predict_proba in threads",
        TREE,
        _uvicorn(f"{_HAND_TUNED}:threadpool_app", "--factory", *_TUNED),
        loads=(MANY_PREDICT,),
        essential=(MANY_PREDICT,),
    ),
    Server(
        "starlette",
        "Starlette, hand-tuned, own metrics",
        LOGISTIC,
        _uvicorn("benchmarks.peers.starlette_app:app", *_TUNED),
        loads=(MANY_PREDICT,),
        essential=(),
    ),
    Server(
        "limit",
        "raw ASGI, constant answer",
        LOGISTIC,
        _uvicorn("benchmarks.peers.constant:app", "--lifespan=off", *_TUNED),
        loads=SINGLES,
        essential=(MANY_PREDICT,),
        constant=True,
    ),
)

FAMILIES: Final = tuple(dict.fromkeys(server.family for server in SERVERS))

_NEEDS: Final = {"split": "ours", "two-workers": "ours"}
"""An optional family is compared with this one."""


def chosen(
    only: Sequence[str], also: Sequence[str], *, models: Sequence[str] = (), essential: bool = False
) -> tuple[Server, ...]:
    """Return the servers of the families in ``only`` (or the usual ones), and in ``also``.

    What they are compared with comes along, with its essential loads.

    Args:
        only: Families.
        also: Families.
        models: Of these models; empty: of all.
        essential: Ask of each server only what a target needs.
    """
    families = set(only) or {server.family for server in SERVERS if not server.optional}
    families |= set(also)
    needed = {_NEEDS[family] for family in families if family in _NEEDS} - families
    servers = (
        server
        for server in SERVERS
        if server.family in families | needed
        and (server.constant or not models or server.model in models)
    )
    if not essential:
        return tuple(
            replace(server, loads=server.essential) if server.family in needed else server
            for server in servers
        )
    return tuple(replace(server, loads=server.essential) for server in servers if server.essential)


ROOT: Final = Path(__file__).resolve().parent.parent
