"""What the harness needs to know of a framework: how it is installed, started and asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from churn_serving.schema import Customer

__all__ = ["Framework", "Launch", "Site", "Tool"]


@dataclass(frozen=True, slots=True)
class Site:
    """Where one framework serves one model. All paths are absolute.

    Attributes:
        python: The interpreter of the framework's own virtual environment; its commands are beside
            it.
        folder: Empty at first, for whatever the framework reads and writes.
        model: A key of ``benchmarks.servers.MODELS``.
        scorer: Pickled by value, so that it loads with cloudpickle, numpy, scipy and scikit-learn
            alone: an object whose ``score(X)`` takes feature rows, float64 of shape ``(n, 13)``,
            and returns churn probabilities, float64 of shape ``(n,)``, and whose
            ``score_row(row)`` does so for one. It is the scorer of this project, so that frameworks
            that run one's own code differ in the serving only.
        pipeline: A pickled scikit-learn ``Pipeline`` of the registered scaler and estimator, for
            frameworks that run scikit-learn models themselves.
        bundle: What ``benchmarks.peers`` reads.
        store: The model store, ``BENTOML_HOME``.
        tag: Of the model in it.
        port: Where requests shall be taken, on 127.0.0.1.
        spare_ports: More free ports, for what else it listens on.
    """

    python: Path
    folder: Path
    model: str
    scorer: Path
    pipeline: Path
    bundle: Path
    store: Path
    tag: str
    port: int
    spare_ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started.

    Attributes:
        command: Runs in the foreground until it is told to end with SIGTERM.
        environment: On top of the harness's own; ``PYTHONPATH`` leads to this project's root.
        folder: Where it is started; the project's root unless given.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that a framework needs beside its Python packages.

    Attributes:
        command: Looked for on the PATH.
        advice: How to get it.
    """

    command: str
    advice: str


@dataclass(frozen=True, slots=True)
class Framework:
    """One way to serve the model.

    Attributes:
        name: For the command line.
        title: For the tables.
        folder: The folder of ``requirements.txt``.
        package: The distribution whose version is reported.
        path: Where predictions are asked for, with POST and JSON.
        encode: One customer as the framework's own request.
        decode: The churn probability in its answer.
        launch: How it is started for a site.
        prepare: Makes what it reads from the site before it is started.
        batching: Its dynamic batching: none, by a timer, or as soon as the model is free.
        how: In a few words, how it is set up here: batch size, timer, workers, what is off.
        tools: Programs that it needs.
        unlocked: Requirements that pip installs first, without hashes.
        optional: Left out unless it is asked for.
    """

    name: str
    title: str
    folder: Path
    package: str
    path: str
    encode: Callable[[Customer], bytes]
    decode: Callable[[bytes], float]
    launch: Callable[[Site], Launch]
    how: str
    batching: Literal["none", "timer", "no timer"] = "none"
    prepare: Callable[[Site], None] | None = None
    tools: tuple[Tool, ...] = ()
    unlocked: tuple[str, ...] = ()
    optional: bool = False
