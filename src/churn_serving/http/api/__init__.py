"""The JSON routes, one file a version: its requests, its answers, and how they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from churn_serving.http.api import v0, v1, v2, v2_batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from churn_serving.http.api.endpoint import Endpoint
    from churn_serving.inference.prediction import Predictor

__all__ = ["ENDPOINTS", "warm_up"]

ENDPOINTS: Final[Mapping[str, Endpoint[Any, Any, Any]]] = {
    endpoint.path: endpoint
    for endpoint in (
        *(v0.PREDICT, v1.PREDICT, v1.PREDICT_BATCH),
        *(v2.PREDICT, v2_batch.PREDICT_BATCH),
    )
}
"""Every JSON route of every version, by its path."""


async def warm_up(predictor: Predictor) -> dict[str, Any]:
    """Answer the example of each route, from bytes to bytes, and return the answers by path.

    Raises:
        ChurnServingError: The model cannot answer.
    """
    return {
        path: await endpoint.answer(predictor, endpoint.parse(endpoint.example))
        for path, endpoint in ENDPOINTS.items()
    }
