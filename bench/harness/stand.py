"""A server that serves a model: prepared, started, checked."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json

from bench.errors import BenchmarkError
from bench.kinds import tolerance
from bench.process import ROOT, free_port, launched
from bench.servers.server import Site

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.harness.environment import Environment
    from bench.harness.workload import Asked, Workload
    from bench.process import Running
    from bench.servers.server import Route, Server

__all__ = ["Bench", "Stand"]

_START_SECONDS: Final = 180
_SPARE_PORTS: Final = 3
# Settings of the person who runs this must not leak into what is compared.
_NOT_PASSED_ON: Final = ("CHURN_", "BENTOML_", "BENCH_", "PROMETHEUS_", "PYTHON")


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured, and with what.

    Attributes:
        servers: In this order.
        models: With these.
        environments: Of the servers that are installed, by name.
        workload: What they are asked.
        folder: For their files.
        logs: Folder for their output.
    """

    servers: Sequence[Server]
    models: Sequence[str]
    environments: Mapping[str, Environment]
    workload: Workload
    folder: Path
    logs: Path

    def stands(self) -> list[Stand]:
        """Return each installed server with each of its models."""
        return [
            Stand(self, server, model)
            for model in self.models
            for server in self.servers
            if server.name in self.environments and model in server.models
        ]


@dataclass(frozen=True, slots=True)
class Stand:
    """One server with one model."""

    bench: Bench
    server: Server
    model: str

    @property
    def name(self) -> str:
        """For messages and files."""
        return f"{self.server.name}-{self.model}"

    def asked(self, route: Route) -> list[Asked]:
        """Return the requests of a route."""
        return self.bench.workload.requests(route, self.model)

    def bodies(self, route: Route) -> Path:
        """Return the file of these requests, one JSON document a line."""
        file = self.bench.folder / f"{self.name}-{route.name}.jsonl"
        if not file.exists():
            file.write_bytes(b"".join(request.body + b"\n" for request in self.asked(route)))
        return file

    @contextmanager
    def serving(self) -> Iterator[Running]:
        """Run the server until the block ends.

        Raises:
            BenchmarkError: It does not start.
        """
        bench = self.bench
        folder = bench.folder / self.name
        folder.mkdir()
        made = bench.workload.models[self.model]
        site = Site(
            python=bench.environments[self.server.name].python,
            folder=folder,
            scorer=made.scorer,
            pipeline=made.pipeline,
            home=bench.workload.home,
            tag=made.tag,
            port=free_port(),
            spare_ports=tuple(free_port() for _ in range(_SPARE_PORTS)),
        )
        own = {
            name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)
        }
        route = self.server.routes[0]
        ready = self.asked(route)[0]
        try:
            if self.server.prepare is not None:
                self.server.prepare(site)
            launch = self.server.launch(site)
            with launched(
                self.server.name,
                launch.command,
                port=site.port,
                environment={
                    **own,
                    "PYTHONPATH": str(ROOT),
                    "BENCH_SCORER": str(site.scorer),
                    "BENCH_PIPELINE": str(site.pipeline),
                    "BENCH_TAG": site.tag,
                    "BENTOML_DO_NOT_TRACK": "True",
                    **launch.environment,
                },
                folder=launch.folder or ROOT,
                cpus=self.server.cpus,
                log=bench.logs / f"{self.name}.log",
                is_ready=lambda here: self.ask(here, route, ready.body),
                seconds=_START_SECONDS,
            ) as here:
                yield here
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def ask(self, here: Running, route: Route, body: bytes) -> list[float]:
        """Return the churn probabilities that the server answers.

        Raises:
            OSError, HTTPException: It answers none.
        """
        answer = here.post(route.path, body)
        try:
            return list(map(float, route.decode(from_json(answer))))
        except (KeyError, IndexError, TypeError, ValueError):
            raise ConnectionError(f"not a prediction: {answer[:200]!r}") from None

    def check(self, here: Running) -> float | None:
        """Compare the answers with the estimator's own and return the largest difference.

        Raises:
            BenchmarkError: They differ by more than the kind of model may.
        """
        if self.server.constant:
            return None
        worst = 0.0
        for route in self.server.routes:
            for asked in self.asked(route):
                answered = self.ask(here, route, asked.body)
                for got, wanted in zip(answered, asked.churn, strict=True):
                    worst = max(worst, abs(got - wanted))
        if not worst <= tolerance(self.model):
            raise BenchmarkError(
                f"The answers differ from the estimator's by up to {worst:.1e}: not measured."
            )
        return worst
