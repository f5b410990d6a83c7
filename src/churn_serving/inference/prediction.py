"""From customers to what the model says of them: what every way into the service calls."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from churn_serving.features.rows import customer_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal

    from churn_serving.inference.batching import Runner
    from churn_serving.model.artifact import RegisteredModel
    from churn_serving.schema import Customer

__all__ = ["Predictor", "Scored"]


class Scored(NamedTuple):
    """What one call of the model said. A tuple, because one is made for each request.

    Attributes:
        probabilities: Each customer's churn probability.
        decisions: Whether each is predicted to leave.
        seconds: From the valid customers to their probabilities, with the time in the queue.
        model: Which model it was.
    """

    probabilities: list[float]
    decisions: list[Literal[0, 1]]
    seconds: float
    model: RegisteredModel


class Predictor:
    """Scores customers with one registered model.

    Args:
        runner: Scores rows.
        model: The model behind the runner.
        threshold: Probabilities from here on are predicted as churn.
        observe: Is told of everything that was scored; it counts, or logs, and never fails.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        model: RegisteredModel,
        threshold: float,
        observe: Callable[[Scored], None],
    ) -> None:
        self.runner = runner
        self._model = model
        self._threshold = threshold
        self._observe = observe

    async def score_one(self, customer: Customer) -> Scored:
        """Score one customer.

        Raises:
            ChurnServingError: What ``Runner.score_row`` raises.
        """
        start = perf_counter()
        churn = await self.runner.score_row(customer_row(customer))
        seconds = perf_counter() - start
        scored = Scored([churn], [1 if churn >= self._threshold else 0], seconds, self._model)
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
        threshold = self._threshold
        decisions: list[Literal[0, 1]] = [1 if p >= threshold else 0 for p in probabilities]
        scored = Scored(probabilities, decisions, seconds, self._model)
        self._observe(scored)
        return scored
