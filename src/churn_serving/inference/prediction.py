"""From customers to what the model says of them: what every way into the service calls."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from churn_serving.features.rows import customer_row
from churn_serving.inference.explaining import InlineExplainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Literal

    from churn_serving.inference.batching import Runner
    from churn_serving.inference.explaining import Explainer
    from churn_serving.model.artifact import RegisteredModel
    from churn_serving.model.policy import Decision, Policy
    from churn_serving.model.reasons.sentences import Reason
    from churn_serving.schema import Customer

__all__ = ["Case", "Predictor", "Scored"]


class Case(Protocol):
    """A customer about whom a decision is to be made."""

    @property
    def customer_id(self) -> str | int | None:
        """As the company knows them."""
        ...

    @property
    def customer(self) -> Customer:
        """What the model sees of them."""
        ...

    @property
    def customer_value(self) -> float | None:
        """What it is worth to keep them, in dollars. None: what the policy says of everybody."""
        ...

    @property
    def max_reasons(self) -> int:
        """How many reasons are wanted; with none, none are computed."""
        ...

    @property
    def what_if(self) -> bool:
        """Whether somebody is only trying: then no figure of the service counts them."""
        ...


class Scored(NamedTuple):
    """What one call of the model said. A tuple, because one is made for each request.

    Attributes:
        probabilities: Each customer's churn probability.
        predictions: Whether each is predicted to leave.
        seconds: From the valid customers to their probabilities, with the time in the queue.
        model: Which model it was.
        cases: The customers, if decisions were asked for; else all that follows is empty, too.
        decisions: What the policy says of each.
        reasons: Why the estimate of each is what it is; None where none are wanted or known.
        baseline: From where the reasons count, in log-odds; None if the model knows no reasons.
        policy_version: Which policy decided.
    """

    probabilities: list[float]
    predictions: list[Literal[0, 1]]
    seconds: float
    model: RegisteredModel
    cases: Sequence[Case] = ()
    decisions: Sequence[Decision] = ()
    reasons: Sequence[list[Reason] | None] = ()
    baseline: float | None = None
    policy_version: str = ""


class Predictor:
    """Scores customers with one registered model.

    Args:
        runner: Scores rows.
        model: The model behind the runner.
        threshold: Probabilities from here on are predicted as churn.
        policy: Decides whom to contact.
        explainer: Knows the reasons of an estimate; None: the model was registered without.
        observe: Is told of everything that was scored; it counts, or logs, and never fails.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        model: RegisteredModel,
        threshold: float,
        policy: Policy,
        explainer: Explainer | None,
        observe: Callable[[Scored], None],
    ) -> None:
        self.runner = runner
        self.policy = policy
        self.model = model
        self._threshold = threshold
        self._explainer = explainer
        self._explain_one = (
            explainer.explain_one if isinstance(explainer, InlineExplainer) else None
        )
        self._baseline = None if explainer is None else explainer.baseline
        self._observe = observe
        self._policy_version = policy.version

    @property
    def explains_slowly(self) -> bool:
        """Whether reasons take so long that no batch should have them, unless it asks."""
        return self._explainer is not None and self._explainer.slow

    async def score_one(self, customer: Customer) -> Scored:
        """Score one customer.

        Raises:
            ChurnServingError: What ``Runner.score_row`` raises.
        """
        start = perf_counter()
        churn = await self.runner.score_row(customer_row(customer))
        seconds = perf_counter() - start
        scored = Scored([churn], [1 if churn >= self._threshold else 0], seconds, self.model)
        self._observe(scored)
        return scored

    async def score_many(self, customers: Iterable[Customer]) -> Scored:
        """Score the customers of one caller with one call of the model.

        Raises:
            ChurnServingError: What ``Runner.score_rows`` raises.
        """
        start = perf_counter()
        probabilities = await self.runner.score_rows(list(map(customer_row, customers)))
        seconds = perf_counter() - start
        scored = Scored(probabilities, self._predicted(probabilities), seconds, self.model)
        self._observe(scored)
        return scored

    async def decide_one(self, case: Case) -> Scored:
        """Score one customer, decide what to do about them, and say why the estimate is so.

        Raises:
            ChurnServingError: What ``Runner.score_row`` and ``Explainer.explain`` raise.
        """
        start = perf_counter()
        row = customer_row(case.customer)
        churn = await self.runner.score_row(row)
        seconds = perf_counter() - start
        if self._explain_one is not None:
            reasons = self._explain_one(case, row)
        elif self._explainer is not None:
            (reasons,) = await self._explainer.explain((case,), (row,))
        else:
            reasons = None
        scored = Scored(
            [churn],
            [1 if churn >= self._threshold else 0],
            seconds,
            self.model,
            (case,),
            (self.policy.decide(churn, case.customer_value, case.customer_id),),
            (reasons,),
            self._baseline,
            self._policy_version,
        )
        if not case.what_if:
            self._observe(scored)
        return scored

    async def decide_many(self, cases: Sequence[Case]) -> Scored:
        """Do for many what ``decide_one`` does, with one call of the model.

        Raises:
            ChurnServingError: What ``Runner.score_rows`` and ``Explainer.explain`` raise.
        """
        start = perf_counter()
        rows = [customer_row(case.customer) for case in cases]
        probabilities = await self.runner.score_rows(rows)
        seconds = perf_counter() - start
        explainer, decide = self._explainer, self.policy.decide
        scored = Scored(
            probabilities,
            self._predicted(probabilities),
            seconds,
            self.model,
            cases,
            [
                decide(churn, case.customer_value, case.customer_id)
                for churn, case in zip(probabilities, cases, strict=True)
            ],
            [None] * len(cases) if explainer is None else await explainer.explain(cases, rows),
            self._baseline,
            self._policy_version,
        )
        real = [place for place, case in enumerate(cases) if not case.what_if]
        if real:
            self._observe(scored if len(real) == len(cases) else _only(scored, real))
        return scored

    def _predicted(self, probabilities: list[float]) -> list[Literal[0, 1]]:
        threshold = self._threshold
        return [1 if churn >= threshold else 0 for churn in probabilities]


def _only(scored: Scored, places: list[int]) -> Scored:
    """Return some of the customers."""
    return scored._replace(
        probabilities=[scored.probabilities[place] for place in places],
        predictions=[scored.predictions[place] for place in places],
        cases=[scored.cases[place] for place in places],
        decisions=[scored.decisions[place] for place in places],
        reasons=[scored.reasons[place] for place in places],
    )
