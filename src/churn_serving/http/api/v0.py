"""``/predict``: one number and the decision it leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field
from typing_extensions import TypedDict

from churn_serving.http.api.endpoint import Endpoint
from churn_serving.inference.prediction import Predictor
from churn_serving.schema import Customer, Outcome

if TYPE_CHECKING:
    from churn_serving.inference.prediction import Scored

__all__ = ["PREDICT", "Prediction"]


class Prediction(TypedDict):
    """The answer of ``POST /predict``."""

    churn_prediction: Outcome
    churn_probability: Annotated[
        float, Field(ge=0, le=1, description="Estimated probability that the customer leaves.")
    ]
    model_tag: Annotated[str, Field(description="Name and version of the model that answered.")]


def _render(scored: Scored) -> Prediction:
    return {
        "churn_prediction": scored.predictions[0],
        "churn_probability": scored.probabilities[0],
        "model_tag": scored.model.tag,
    }


PREDICT: Final = Endpoint(
    path="/predict",
    name="predict",
    summary="Predict whether one customer will leave.",
    request=Customer,
    response=Prediction,
    score=Predictor.score_one,
    render=_render,
)
