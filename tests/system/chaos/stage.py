"""Where scenarios are played: a folder with a model store, and servers that know nothing else."""

from __future__ import annotations

import os
import resource
import shutil
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import bentoml

from tests.system.chaos.model import FAULTS, Faults
from tests.system.chaos.server import PROBE, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from tests.system.chaos.server import Server

__all__ = ["Stage"]

_OURS: Final = ("BENTOML_", "CHURN_", "PROMETHEUS_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a scenario is given.

    Attributes:
        folder: Its own; the servers' ``BENTOML_HOME`` and logs are in it.
        models: The tags of the registered models: healthy, faulty and broken.
        quick: Whether the short form is wanted.
        say: Shows what happens.
    """

    folder: Path
    models: Mapping[str, str]
    quick: bool
    say: Callable[[str], None]
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        # The store is copied: a scenario may damage it.
        for tag in self.models.values():
            registered = Path(bentoml.models.get(tag).path).parent
            shutil.copytree(registered, self.home / "models" / registered.name)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    @property
    def home(self) -> Path:
        """The servers' ``BENTOML_HOME``."""
        return self.folder / "home"

    def faults(self) -> Faults:
        """Return what the faulty model obeys; it behaves at first."""
        return Faults(self.folder / "faults.json")

    def env(self, model: str, **settings: object) -> dict[str, str]:
        """Return the environment of a server; ``settings`` are those of the service."""
        return {
            # Settings of the person who runs this must not leak into the scenario.
            **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
            "BENTOML_HOME": str(self.home),
            "BENTOML_DO_NOT_TRACK": "True",
            FAULTS: str(self.folder / "faults.json"),
            "CHURN_MODEL_TAG": self.models[model],
            "CHURN_WORKERS": "1",
            "CHURN_ALLOW_PICKLE": "true",
            # Only the scenario that stops servers under load has to wait for it.
            "CHURN_DRAIN_DELAY_SECONDS": "0",
            **{f"CHURN_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def serve(
        self,
        model: str = "healthy",
        *,
        probe: bytes = PROBE,
        variables: Mapping[str, str] | None = None,
        **settings: object,
    ) -> AbstractContextManager[Server]:
        """Run a server with one of the models until the block ends.

        Args:
            model: healthy, faulty or broken.
            probe: It is up once this is answered with 200.
            variables: Further ones of its environment.
            settings: Of the service, in lower case and without their prefix.
        """
        log = self.folder / f"server-{next(self._numbers)}.log"
        env = self.env(model, **settings) | dict(variables or {})
        return serving(env, log, probe=probe)
