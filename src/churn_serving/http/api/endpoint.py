"""One JSON route: which model its body is parsed into, and how it is scored and answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from churn_serving.errors import MalformedBodyError, ValidationFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from churn_serving.errors import Failure, RequestError
    from churn_serving.inference.prediction import Predictor
    from churn_serving.model.artifact import RegisteredModel

__all__ = ["Endpoint", "refusal"]

_MAX_FAILURES: Final = 100
_MAX_NAME: Final = 100


class _Answered(Protocol):
    """What was found out about a request's customers."""

    @property
    def model(self) -> RegisteredModel:
        """The model that was asked."""
        ...


In = TypeVar("In", bound=BaseModel)
S = TypeVar("S", bound=_Answered)
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Generic[In, S, Out]):
    """A JSON route of one version of the API.

    Attributes:
        path: Where it is found.
        name: What the route is called in the API documentation.
        summary: What it does, in one line.
        request: The model of the body.
        response: The type of the answer.
        score: Scores the customers of a request.
        render: Returns what was scored, as this version has it, to be written down.
        encode: Writes that down as JSON.
        max_body_bytes: The largest body; None: what the settings say.
    """

    path: str
    name: str
    summary: str
    request: type[In]
    response: type[Out]
    score: Callable[[Predictor, In], Coroutine[Any, Any, S]]
    render: Callable[[S], Any]
    encode: Callable[[Any], bytes] = to_json
    max_body_bytes: int | None = None
    _validate_json: Callable[[bytes], In] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # pydantic-core's own function: the method around it costs as much as the validation.
        validate_json = TypeAdapter(self.request).validator.validate_json
        object.__setattr__(self, "_validate_json", validate_json)

    @property
    def example(self) -> bytes:
        """A valid body, as the documentation shows it."""
        extra = self.request.model_config["json_schema_extra"]
        return to_json(extra["example"])  # type: ignore[index]  # each model of ours has a dict

    def parse(self, body: bytes) -> In:
        """Return the validated body.

        Raises:
            MalformedBodyError: The body is not JSON.
            ValidationFailedError: The body breaks the schema; the detail says where.
        """
        try:
            return self._validate_json(body)
        except ValidationError as error:
            raise refusal(error) from None

    async def answer(self, predictor: Predictor, request: In) -> Out:
        """Return the answer to a valid request, as its JSON is read."""
        written = self.encode(self.render(await self.score(predictor, request)))
        answer: Out = from_json(written)
        return answer


def refusal(error: ValidationError) -> RequestError:
    """Return what a caller is told whose body, or a part of it, is not valid."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    # A field's name may be the caller's own invention: keep it short.
    detail: list[Failure] = [
        {
            "loc": [part if isinstance(part, int) else part[:_MAX_NAME] for part in error["loc"]],
            # Of parsed JSON, pydantic would name a class of ours.
            "msg": "Input should be an object" if error["type"] == "model_type" else error["msg"],
            "type": error["type"],
        }
        for error in errors[:_MAX_FAILURES]
    ]
    if detail[0]["type"] == "json_invalid":
        return MalformedBodyError("The request body is not valid JSON.", detail)
    noun = "field is" if len(errors) == 1 else "fields are"
    return ValidationFailedError(f"{len(errors)} {noun} missing or invalid.", detail)
