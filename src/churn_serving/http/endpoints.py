"""The JSON routes: which model a body is parsed into, and who answers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from churn_serving.errors import MalformedBodyError, ValidationFailedError
from churn_serving.inference.prediction import Predictor
from churn_serving.schema import (
    BatchPrediction,
    Customer,
    CustomerBatch,
    Prediction,
    PredictionV1,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from pydantic_core import ErrorDetails

    from churn_serving.errors import Failure, RequestError

__all__ = ["ENDPOINTS", "PREDICT", "PREDICT_V1", "PREDICT_V1_BATCH", "Endpoint", "warm_up"]

PREDICT: Final = "/predict"
PREDICT_V1: Final = "/api/v1/predict"
PREDICT_V1_BATCH: Final = "/api/v1/predict/batch"

_MAX_FAILURES: Final = 100
_MAX_NAME: Final = 100

In = TypeVar("In", bound=BaseModel)
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[In, Out]):
    """One JSON route: how its body is read, handled and answered.

    Attributes:
        name: What the route is called in the API documentation.
        summary: What it does, in one line.
        request: The model of the body.
        response: The type of the answer.
        handle: Makes the one from the other.
        validate_json: Validates a body.
    """

    name: str
    summary: str
    request: type[In]
    response: type[Out]
    handle: Callable[[Predictor, In], Coroutine[Any, Any, Out]]
    validate_json: Callable[[bytes], In]

    @property
    def example(self) -> bytes:
        """A valid body, as the documentation shows it."""
        return to_json(self.request.model_json_schema()["example"])

    def parse(self, body: bytes) -> In:
        """Return the validated body.

        Raises:
            MalformedBodyError: The body is not JSON.
            ValidationFailedError: The body breaks the schema; the detail says where.
        """
        try:
            return self.validate_json(body)
        except ValidationError as error:
            raise _refusal(
                error.errors(include_url=False, include_context=False, include_input=False)
            ) from None


def _endpoint(
    name: str,
    summary: str,
    request: type[In],
    response: type[Out],
    handle: Callable[[Predictor, In], Coroutine[Any, Any, Out]],
) -> Endpoint[In, Out]:
    # pydantic-core's own function: the method around it costs as much as the validation.
    validate_json: Callable[[bytes], In] = TypeAdapter(request).validator.validate_json
    return Endpoint(name, summary, request, response, handle, validate_json)


ENDPOINTS: Final[Mapping[str, Endpoint[Any, Any]]] = {
    PREDICT: _endpoint(
        "predict",
        "Predict whether one customer will leave.",
        Customer,
        Prediction,
        Predictor.predict,
    ),
    PREDICT_V1: _endpoint(
        "predict_v1",
        "Predict whether one customer will leave; both probabilities and the time taken.",
        Customer,
        PredictionV1,
        Predictor.predict_v1,
    ),
    PREDICT_V1_BATCH: _endpoint(
        "predict_batch",
        "Predict for 1 to 100 customers with one call of the model.",
        CustomerBatch,
        BatchPrediction,
        Predictor.predict_batch,
    ),
}


async def warm_up(predictor: Predictor) -> None:
    """Answer the example of each route, from bytes to bytes.

    Raises:
        ChurnServingError: The model cannot answer.
    """
    for endpoint in ENDPOINTS.values():
        to_json(await endpoint.handle(predictor, endpoint.parse(endpoint.example)))


def _refusal(errors: list[ErrorDetails]) -> RequestError:
    # A field's name may be the caller's own invention: keep it short.
    detail: list[Failure] = [
        {
            "loc": [part if isinstance(part, int) else part[:_MAX_NAME] for part in error["loc"]],
            "msg": error["msg"],
            "type": error["type"],
        }
        for error in errors[:_MAX_FAILURES]
    ]
    if detail[0]["type"] == "json_invalid":
        return MalformedBodyError("The request body is not valid JSON.", detail)
    noun = "field is" if len(errors) == 1 else "fields are"
    return ValidationFailedError(f"{len(errors)} {noun} missing or invalid.", detail)
