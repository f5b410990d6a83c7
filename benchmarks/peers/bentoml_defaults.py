"""BentoML with nothing but ``@bentoml.api``: every option at its default.

    bentoml serve benchmarks.peers.bentoml_defaults:ChurnDefaults

The answer is a pydantic model: for a TypedDict, BentoML makes a JSON schema at every request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import bentoml
from pydantic import BaseModel, ConfigDict

from churn_serving.features.rows import customer_row
from churn_serving.schema import Customer  # noqa: TC001 - BentoML evaluates the annotations

if TYPE_CHECKING:
    from collections.abc import Callable


class Answer(BaseModel):
    """The answer."""

    model_config = ConfigDict(protected_namespaces=())

    churn_prediction: int
    churn_probability: float
    model_tag: str


@bentoml.service
class ChurnDefaults:
    """Predicts which customers are about to leave."""

    def __init__(self) -> None:
        # Imported late: BentoML's supervisor imports this file too, and never loads a model.
        from benchmarks.peers import model  # noqa: PLC0415
        from churn_serving.model.scoring import make_scorer  # noqa: PLC0415

        self.score_row: Callable[[tuple[float, ...]], float] = make_scorer(
            model.ARTIFACT.estimator, model.ARTIFACT.scaler
        ).score_row
        self.outcome: Callable[[float], int] = model.outcome
        self.tag = model.ARTIFACT.tag

    @bentoml.api
    async def predict(self, customer: Customer, /) -> Answer:
        """Predict whether one customer will leave."""
        churn = self.score_row(customer_row(customer))
        return Answer(
            churn_prediction=self.outcome(churn), churn_probability=churn, model_tag=self.tag
        )
