from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from churn_serving.inference.batching import InlineRunner
from churn_serving.inference.prediction import Predictor
from churn_serving.model.scoring import make_scorer
from churn_serving.schema import Customer, CustomerBatch
from churn_serving.telemetry.metrics import Metrics
from tests.doubles import circuit_breaker

if TYPE_CHECKING:
    from tests.package.conftest import Fitted


@pytest.fixture
def probability(logistic: Fitted) -> float:
    """What scikit-learn says of the first public customer."""
    return float(logistic.predict_proba(logistic.X[:1])[0])


@pytest.fixture
def first_public_customer(customer: dict[str, Any]) -> Customer:
    return Customer(
        **customer
        | {
            "tenure_months": 1,
            "monthly_charges": 29.85,
            "total_charges": 29.85,
            "num_products": 2,
            "has_phone_service": False,
            "has_internet": True,
            "contract_type": "month-to-month",
            "payment_method": "electronic",
        }
    )


def _predictor(fitted: Fitted, threshold: float) -> Predictor:
    metrics = Metrics(model_version="v1")
    scorer = make_scorer(fitted.estimator, fitted.scaler)
    runner = InlineRunner(scorer, breaker=circuit_breaker(), metrics=metrics)
    return Predictor(runner, model_tag="churn:v1", threshold=threshold, metrics=metrics)


def test_the_three_answers_agree_with_scikit_learn_and_each_other(
    logistic: Fitted, first_public_customer: Customer, probability: float
) -> None:
    predictor = _predictor(logistic, 0.5)
    plain = asyncio.run(predictor.predict(first_public_customer))
    v1 = asyncio.run(predictor.predict_v1(first_public_customer))
    batch = asyncio.run(predictor.predict_batch(CustomerBatch(items=[first_public_customer] * 3)))

    assert plain["churn_probability"] == pytest.approx(probability, abs=1e-12)
    assert plain["model_tag"] == "churn:v1"
    assert v1["probability"]["churn"] == plain["churn_probability"]
    assert v1["model_version"] == "v1"
    assert v1["inference_time_ms"] >= 0
    assert batch["batch_size"] == 3
    assert batch["total_inference_time_ms"] >= 0
    assert [result["batch_index"] for result in batch["results"]] == [0, 1, 2]
    for result in batch["results"]:
        assert result["probability"]["churn"] == pytest.approx(probability, abs=1e-12)
        assert result["probability"]["no_churn"] == 1 - result["probability"]["churn"]
        assert result["prediction"] == plain["churn_prediction"] == v1["prediction"]


@pytest.mark.parametrize(("offset", "outcome"), [(-1e-9, 1), (0, 1), (1e-9, 0)])
def test_churn_is_predicted_from_the_threshold_on(
    offset: float, outcome: int, logistic: Fitted, first_public_customer: Customer
) -> None:
    plain = asyncio.run(_predictor(logistic, 0.5).predict(first_public_customer))
    predictor = _predictor(logistic, plain["churn_probability"] + offset)
    assert asyncio.run(predictor.predict(first_public_customer))["churn_prediction"] == outcome
    assert asyncio.run(predictor.predict_v1(first_public_customer))["prediction"] == outcome
