"""The promises: ratios within one run, so that they hold on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.servers import (
    LOGISTIC,
    MANY_BATCH,
    MANY_PREDICT,
    MODELS,
    ONE_PREDICT,
    TREE,
    Load,
)

if TYPE_CHECKING:
    from benchmarks.compare import Comparison, Figure

__all__ = ["TARGETS", "Outcome", "Target", "outcomes"]

BATCH_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on our figure over a peer's.

    Attributes:
        title: What is promised.
        bound: The ratio.
        at_least: The ratio must reach the bound; otherwise it must stay below.
        figure: What is compared.
        peer: The other server.
        load: What both are asked.
        model: Which of our servers.
        peer_load: Where the peer is asked something else.
        ours: Our family.
        factor: Of our figure, for example customers per request.
    """

    title: str
    bound: float
    at_least: bool
    figure: Figure
    peer: str
    load: Load
    model: str
    peer_load: Load | None = None
    ours: str = "ours"
    factor: float = 1.0

    def ratio(self, comparison: Comparison) -> float | None:
        """Return what was measured, or None."""
        ours = comparison.median(f"{self.ours}/{self.model}", self.load, self.figure)
        peer = comparison.median(self.peer, self.peer_load or self.load, self.figure)
        if ours is None or not peer:
            return None
        return self.factor * ours / peer

    @property
    def wanted(self) -> str:
        """The bound, in words."""
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}x"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target and what was measured; both None if it was not."""

    target: Target
    ratio: float | None
    met: bool | None


def outcomes(comparison: Comparison) -> list[Outcome]:
    """Hold the comparison against every target."""
    found = []
    for target in TARGETS:
        ratio = target.ratio(comparison)
        met = None
        if ratio is not None:
            met = ratio >= target.bound if target.at_least else ratio <= target.bound
        found.append(Outcome(target, ratio, met))
    return found


def _rate(model: str, family: str, title: str, bound: float) -> Target:
    return Target(
        f"{model}: req/s over {title}",
        bound,
        at_least=True,
        figure="rate",
        peer=f"{family}/{model}",
        load=MANY_PREDICT,
        model=model,
    )


def _cpu_over_limit(model: str, bound: float) -> Target:
    return Target(
        f"{model}: CPU/request over the raw ASGI limit",
        bound,
        at_least=False,
        figure="cpu_us",
        peer="limit",
        load=MANY_PREDICT,
        model=model,
    )


def _p50(model: str, family: str, title: str, bound: float) -> Target:
    return Target(
        f"{model}: p50 on one connection over {title}",
        bound,
        at_least=False,
        figure="p50_ms",
        peer=f"{family}/{model}",
        load=ONE_PREDICT,
        model=model,
    )


TARGETS: Final[tuple[Target, ...]] = (
    _rate(LOGISTIC, "textbook", "textbook FastAPI", 40),
    _rate(LOGISTIC, "hand-tuned", "hand-tuned FastAPI", 2.0),
    _cpu_over_limit(LOGISTIC, 2.3),
    _rate(TREE, "textbook", "textbook FastAPI", 40),
    _rate(TREE, "hand-tuned", "hand-tuned FastAPI with our scorer", 2.0),
    _rate(TREE, "hand-tuned-threadpool", "hand-tuned FastAPI with predict_proba", 10),
    _cpu_over_limit(TREE, 3.2),
    *(
        target
        for model in MODELS
        for target in (
            _p50(model, "textbook", "textbook FastAPI", 0.2),
            _p50(model, "hand-tuned", "hand-tuned FastAPI", 1.0),
        )
    ),
    Target(
        "logistic: customers/s in batches of 100 over textbook FastAPI",
        300,
        at_least=True,
        figure="rate",
        peer=f"textbook/{LOGISTIC}",
        load=MANY_BATCH,
        peer_load=MANY_PREDICT,
        model=LOGISTIC,
        factor=BATCH_ROWS,
    ),
    Target(
        "logistic: customers/s in batches of 100 over hand-tuned FastAPI",
        1.5,
        at_least=True,
        figure="rate",
        peer=f"hand-tuned/{LOGISTIC}",
        load=MANY_BATCH,
        model=LOGISTIC,
    ),
    *(_rate(model, "bentoml-defaults", "BentoML's defaults", 8) for model in MODELS),
    *(
        Target(
            f"{model}: CPU/request of two workers over one",
            1.1,
            at_least=False,
            figure="cpu_us",
            peer=f"ours/{model}",
            load=MANY_PREDICT,
            model=model,
            ours="two-workers",
        )
        for model in MODELS
    ),
)
