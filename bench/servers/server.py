"""What the harness needs to know of a server: how it is installed, started and asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from bench.kinds import MODELS
from churn_serving.features.rows import customer_row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from churn_serving.schema import Customer

__all__ = [
    "BATCH",
    "BATCH_V2",
    "PREDICT",
    "PREDICT_V1",
    "PREDICT_V2",
    "Launch",
    "Route",
    "Server",
    "Site",
    "Tool",
    "row",
    "tensor",
]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a server is asked, in its own format, with POST and JSON.

    Attributes:
        name: What is asked there; routes of different servers with one name are compared.
        path: The path.
        encode: The document that asks about some customers.
        decode: The churn probabilities in the document that answers.
        size: About how many customers one request asks.
    """

    name: str
    path: str
    encode: Callable[[Sequence[Customer]], Any]
    decode: Callable[[Any], list[float]]
    size: int = 1


PREDICT: Final = Route(
    "predict",
    "/predict",
    lambda customers: customers[0],
    lambda answer: [answer["churn_probability"]],
)
PREDICT_V1: Final = Route(
    "predict v1",
    "/api/v1/predict",
    lambda customers: customers[0],
    lambda answer: [answer["probability"]["churn"]],
)
BATCH: Final = Route(
    "batch of 100",
    "/api/v1/predict/batch",
    lambda customers: {"items": customers},
    lambda answer: [result["probability"]["churn"] for result in answer["results"]],
    size=100,
)

PREDICT_V2: Final = Route(
    "predict v2",
    "/api/v2/predict",
    lambda customers: {"customer_id": "7590-VHVEG", "customer": customers[0]},
    lambda answer: [answer["churn_probability"]],
)
"""With the decision and three reasons, as it is by default."""
BATCH_V2: Final = Route(
    "batch of 1,000 v2",
    "/api/v2/predict/batch",
    lambda customers: {
        "items": [
            {"customer_id": number, "customer": customer}
            for number, customer in enumerate(customers)
        ],
        "capacity": 100,
    },
    lambda answer: [result["churn_probability"] for result in answer["results"]],
    size=1000,
)
"""With reasons, decisions and the ranking."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where one server serves one model. All paths are absolute.

    Attributes:
        python: The interpreter of the server's environment; its commands are beside it.
        folder: Empty at first, for whatever the server reads and writes.
        scorer: Pickled by value, so that it loads with cloudpickle and numpy alone: an object whose
            ``score(X)`` takes feature rows, float64 of shape ``(n, 13)``, and returns churn
            probabilities, float64 of shape ``(n,)``, and whose ``score_row(row)`` does so for one.
            It is the scorer of this project, so that servers that run one's own code differ in the
            serving only.
        pipeline: The pickled scikit-learn ``Pipeline`` of scaler and estimator that BentoML keeps,
            for servers that run scikit-learn models themselves. (Of a booster: its own classifier.)
        home: The model store, ``BENTOML_HOME``.
        tag: Of the model in it.
        port: Where requests shall be taken, on 127.0.0.1.
        spare_ports: More free ports, for what else it listens on.
    """

    python: Path
    folder: Path
    scorer: Path
    pipeline: Path
    home: Path
    tag: str
    port: int
    spare_ports: tuple[int, ...]

    @property
    def packages(self) -> Path:
        """Where the packages of the environment are."""
        (packages,) = (self.python.parent.parent / "lib").glob("python*/site-packages")
        return packages


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started.

    Attributes:
        command: Runs in the foreground until it is told to end with SIGTERM.
        environment: On top of the harness's own, which has ``BENCH_SCORER``, ``BENCH_PIPELINE`` and
            ``BENCH_TAG`` of the site, and ``PYTHONPATH`` that leads to this project's root.
        folder: Where it is started; the project's root unless given.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that a server needs beside its Python packages.

    Attributes:
        command: Looked for on the PATH.
        advice: How to get it.
    """

    command: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One way to serve the model.

    Attributes:
        name: For the command line.
        title: For the tables.
        folder: Where it is described.
        needs: The distributions that it needs; the version of the first one is reported.
        launch: How it is started for a site.
        how: In a few words, how it is set up here: batch size, timer, workers, what is off.
        routes: Where it is asked; the first one is for a single customer.
        models: With which models.
        prepare: Makes what it reads from the site before it is started.
        batching: Its dynamic batching: none, by a timer, or as soon as the model is free.
        requirements: The lock of its environment, if that is not the one in its folder.
        tools: Programs that it needs.
        unlocked: Requirements that pip installs first, without hashes.
        cpus: The cores where it may run.
        constant: It does not predict, so its answers are not checked.
        ours: Whether it is this project's own service.
        optional: Left out unless it is asked for, as is any server with a lock in its folder.
    """

    name: str
    title: str
    folder: Path
    needs: tuple[str, ...]
    launch: Callable[[Site], Launch]
    how: str
    routes: tuple[Route, ...] = (PREDICT,)
    models: tuple[str, ...] = MODELS
    prepare: Callable[[Site], None] | None = None
    batching: Literal["none", "timer", "no timer"] = "none"
    requirements: Path | None = None
    tools: tuple[Tool, ...] = ()
    unlocked: tuple[str, ...] = ()
    cpus: frozenset[int] = frozenset({0})
    constant: bool = False
    ours: bool = False
    optional: bool = False

    @property
    def lock(self) -> Path | None:
        """The lock of its own environment; None: it runs in that of the bench."""
        lock = self.requirements or self.folder / "requirements.txt"
        return lock if lock.exists() else None

    @property
    def usual(self) -> bool:
        """Whether it is measured unless others are asked for."""
        return not self.optional and not (self.folder / "requirements.txt").exists()


def row(customer: Customer) -> list[float]:
    """Return the customer's feature row, for servers that get it from the client."""
    return list(map(float, customer_row(customer)))


def tensor(name: str, values: list[float]) -> dict[str, Any]:
    """Return a feature row as the only input of a request in the Open Inference Protocol."""
    only = {"name": name, "shape": [1, len(values)], "datatype": "FP64", "data": values}
    return {"inputs": [only]}
