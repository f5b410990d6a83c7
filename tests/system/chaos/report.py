"""What a scenario found out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["ChaosError", "Report", "Verdict"]

Verdict: TypeAlias = Literal["pass", "FAIL", "not run in full"]


class ChaosError(Exception):
    """A scenario could not go on; its text says why."""


@dataclass(slots=True)
class Report:
    """One row of the table.

    Attributes:
        done: What was done to the service, and how often.
        came_back: What it did.
        failures: What it should have done and did not.
        not_run: What this machine does not allow to be done.
        figures: Everything that was measured.
        seconds: How long it took.
    """

    done: str = ""
    came_back: str = ""
    failures: list[str] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    seconds: float = 0.0

    def require(self, holds: object, otherwise: str) -> None:
        """Note what is wrong unless the criterion holds."""
        if not holds:
            self.failures.append(otherwise)

    @property
    def verdict(self) -> Verdict:
        """Whether every criterion held."""
        if self.failures:
            return "FAIL"
        return "not run in full" if self.not_run else "pass"
