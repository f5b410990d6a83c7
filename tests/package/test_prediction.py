from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from churn_serving.features.rows import customer_row, feature_matrix
from churn_serving.http.api import v0, v1
from churn_serving.inference.batching import InlineRunner
from churn_serving.inference.prediction import Predictor, Scored
from churn_serving.model.policy import Policy
from churn_serving.schema import EXAMPLE, Customer
from churn_serving.telemetry.metrics import Metrics
from tests.doubles import MODEL, circuit_breaker

if TYPE_CHECKING:
    from tests.package.conftest import Fitted

CUSTOMER = Customer.model_validate(EXAMPLE)


@pytest.fixture
def probability(logistic: Fitted) -> float:
    """What scikit-learn says of the customer."""
    return float(logistic.predict_proba(feature_matrix([customer_row(CUSTOMER)]))[0])


@pytest.fixture
def seen() -> list[Scored]:
    """What the predictor's observer was told."""
    return []


def _predictor(fitted: Fitted, seen: list[Scored], threshold: float = 0.5) -> Predictor:
    runner = InlineRunner(
        fitted.scorer,
        breaker=circuit_breaker(),
        metrics=Metrics(model_version="v1"),
    )
    return Predictor(
        runner,
        model=MODEL,
        threshold=threshold,
        policy=Policy(),
        explainer=None,
        observe=seen.append,
    )


def test_what_is_scored_agrees_with_scikit_learn_and_is_observed(
    logistic: Fitted, seen: list[Scored], probability: float
) -> None:
    predictor = _predictor(logistic, seen)
    one = asyncio.run(predictor.score_one(CUSTOMER))
    many = asyncio.run(predictor.score_many([CUSTOMER] * 3))
    assert one.probabilities == pytest.approx([probability], abs=1e-12)
    assert many.probabilities == pytest.approx([probability] * 3, abs=1e-12)
    assert (one.predictions, many.predictions) == ([1], [1, 1, 1])
    assert one.model is many.model is MODEL
    assert one.seconds > 0
    assert many.seconds > 0
    assert seen == [one, many]


@pytest.mark.parametrize(("offset", "decision"), [(-1e-9, 1), (0, 1), (1e-9, 0)])
def test_churn_is_predicted_from_the_threshold_on(
    offset: float, decision: int, logistic: Fitted, seen: list[Scored]
) -> None:
    scored = asyncio.run(_predictor(logistic, seen).score_one(CUSTOMER))
    predictor = _predictor(logistic, seen, scored.probabilities[0] + offset)
    assert asyncio.run(predictor.score_one(CUSTOMER)).predictions == [decision]


SCORED = Scored([0.25, 0.75], [0, 1], 0.00123456, MODEL)


def test_version_0_writes_one_number_and_the_decision() -> None:
    assert v0.PREDICT.render(SCORED) == {
        "churn_prediction": 0,
        "churn_probability": 0.25,
        "model_tag": "churn:v1",
    }


def test_version_1_writes_both_probabilities_and_the_time() -> None:
    assert v1.PREDICT.render(SCORED) == {
        "prediction": 0,
        "probability": {"no_churn": 0.75, "churn": 0.25},
        "inference_time_ms": 1.2346,
        "model_version": "v1",
    }


def test_version_1_writes_a_batch_in_order() -> None:
    assert v1.PREDICT_BATCH.render(SCORED) == {
        "results": [
            {"prediction": 0, "probability": {"no_churn": 0.75, "churn": 0.25}, "batch_index": 0},
            {"prediction": 1, "probability": {"no_churn": 0.25, "churn": 0.75}, "batch_index": 1},
        ],
        "batch_size": 2,
        "total_inference_time_ms": 1.2346,
    }
