"""From customers to answers: what every way into the service calls."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING

from churn_serving.features.rows import customer_row

if TYPE_CHECKING:
    from typing import Literal

    from churn_serving.inference.batching import Runner
    from churn_serving.schema import (
        BatchPrediction,
        Customer,
        CustomerBatch,
        Prediction,
        PredictionV1,
    )
    from churn_serving.telemetry.metrics import Metrics

__all__ = ["Predictor"]

logger = logging.getLogger(__name__)


class Predictor:
    """Answers for one registered model.

    Args:
        runner: Scores rows.
        model_tag: ``name:version`` of the model behind the runner.
        threshold: Probabilities from here on are predicted as churn.
        metrics: Counts the predictions.
    """

    def __init__(
        self, runner: Runner, *, model_tag: str, threshold: float, metrics: Metrics
    ) -> None:
        self.runner = runner
        self._model_tag = model_tag
        self._model_version = model_tag.partition(":")[2]
        self._threshold = threshold
        self._metrics = metrics
        self._logs = logger.isEnabledFor(logging.DEBUG)

    async def predict(self, customer: Customer) -> Prediction:
        """Answer ``POST /predict``."""
        churn = await self.runner.score_row(customer_row(customer))
        outcome = self._decide(churn)
        return {
            "churn_prediction": outcome,
            "churn_probability": churn,
            "model_tag": self._model_tag,
        }

    async def predict_v1(self, customer: Customer) -> PredictionV1:
        """Answer ``POST /api/v1/predict``."""
        start = perf_counter()
        churn = await self.runner.score_row(customer_row(customer))
        elapsed = _milliseconds_since(start)
        outcome = self._decide(churn)
        return {
            "prediction": outcome,
            "probability": {"no_churn": 1.0 - churn, "churn": churn},
            "inference_time_ms": elapsed,
            "model_version": self._model_version,
        }

    async def predict_batch(self, batch: CustomerBatch) -> BatchPrediction:
        """Answer ``POST /api/v1/predict/batch`` with one call of the model."""
        start = perf_counter()
        scores = await self.runner.score_rows([customer_row(item) for item in batch.items])
        elapsed = _milliseconds_since(start)
        threshold = self._threshold
        outcomes: list[Literal[0, 1]] = [1 if churn >= threshold else 0 for churn in scores]
        self._metrics.predicted_batch(outcomes)
        if self._logs:
            logger.debug("Predictions", extra={"customers": len(outcomes), "churn": sum(outcomes)})
        return {
            "results": [
                {
                    "prediction": outcome,
                    "probability": {"no_churn": 1.0 - churn, "churn": churn},
                    "batch_index": index,
                }
                for index, (outcome, churn) in enumerate(zip(outcomes, scores, strict=True))
            ],
            "batch_size": len(scores),
            "total_inference_time_ms": elapsed,
        }

    def _decide(self, churn: float) -> Literal[0, 1]:
        """Return whether the customer is predicted to leave, and count it."""
        leaves = churn >= self._threshold
        self._metrics.predicted(churn=leaves)
        if self._logs:
            logger.debug("Prediction", extra={"churn_probability": churn, "churn": leaves})
        return 1 if leaves else 0


def _milliseconds_since(start: float) -> float:
    return round((perf_counter() - start) * 1e3, 4)
