"""``/api/v1``: both probabilities and the time taken, for one customer or up to a hundred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from churn_serving.http.api.endpoint import Endpoint
from churn_serving.inference.prediction import Predictor
from churn_serving.schema import EXAMPLE, MAX_BATCH_ITEMS, Customer, Outcome, Request

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from churn_serving.inference.prediction import Scored

__all__ = [
    "PREDICT",
    "PREDICT_BATCH",
    "BatchPrediction",
    "BatchResult",
    "CustomerBatch",
    "PredictionV1",
    "Probability",
]


class CustomerBatch(Request):
    """Between 1 and 100 customers, scored by one call of the model."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE]}})

    items: Annotated[
        list[Customer],
        Field(min_length=1, max_length=MAX_BATCH_ITEMS, description="The customers."),
    ]


# Answers are plain dictionaries: building a model for each of a hundred customers would take longer
# than everything else about them.


class Probability(TypedDict):
    """The two class probabilities; they sum to 1."""

    no_churn: Annotated[float, Field(ge=0, le=1)]
    churn: Annotated[float, Field(ge=0, le=1)]


class PredictionV1(TypedDict):
    """The answer of ``POST /api/v1/predict``."""

    prediction: Outcome
    probability: Probability
    inference_time_ms: Annotated[
        float, Field(ge=0, description="Time from the validated input to the score, in ms.")
    ]
    model_version: Annotated[str, Field(description="Version of the model that answered.")]


class BatchResult(TypedDict):
    """One customer's answer within a batch."""

    prediction: Outcome
    probability: Probability
    batch_index: Annotated[int, Field(ge=0, description="Position of the customer in items.")]


class BatchPrediction(TypedDict):
    """The answer of ``POST /api/v1/predict/batch``, in the order of the items."""

    results: list[BatchResult]
    batch_size: Annotated[int, Field(ge=1, description="Number of customers scored.")]
    total_inference_time_ms: Annotated[
        float, Field(ge=0, description="Time from the validated input to the scores, in ms.")
    ]


def _render(scored: Scored) -> PredictionV1:
    churn = scored.probabilities[0]
    return {
        "prediction": scored.predictions[0],
        "probability": {"no_churn": 1.0 - churn, "churn": churn},
        "inference_time_ms": _milliseconds(scored),
        "model_version": scored.model.version,
    }


def _score_batch(predictor: Predictor, batch: CustomerBatch) -> Coroutine[Any, Any, Scored]:
    return predictor.score_many(batch.items)


def _render_batch(scored: Scored) -> BatchPrediction:
    predicted = zip(scored.predictions, scored.probabilities, strict=True)
    return {
        "results": [
            {
                "prediction": prediction,
                "probability": {"no_churn": 1.0 - churn, "churn": churn},
                "batch_index": index,
            }
            for index, (prediction, churn) in enumerate(predicted)
        ],
        "batch_size": len(scored.predictions),
        "total_inference_time_ms": _milliseconds(scored),
    }


def _milliseconds(scored: Scored) -> float:
    return round(scored.seconds * 1e3, 4)


PREDICT: Final = Endpoint(
    path="/api/v1/predict",
    name="predict_v1",
    summary="Predict whether one customer will leave; both probabilities and the time taken.",
    request=Customer,
    response=PredictionV1,
    score=Predictor.score_one,
    render=_render,
)

PREDICT_BATCH: Final = Endpoint(
    path="/api/v1/predict/batch",
    name="predict_batch",
    summary="Predict for 1 to 100 customers with one call of the model.",
    request=CustomerBatch,
    response=BatchPrediction,
    score=_score_batch,
    render=_render_batch,
)
