"""``/api/v2/predict/batch``: decisions about up to a thousand customers, and whom to contact first.

A batch is worked on in slices, between which others have their turn: a thousand customers take tens
of milliseconds. Each item is validated by itself, so a bad one spoils nobody else's answer.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import numpy as np
from pydantic import ConfigDict, Field, SkipValidation, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from churn_serving import context
from churn_serving.errors import (
    DeadlineExceededError,
    MalformedBodyError,
    RequestError,
    ScoringError,
    ValidationFailedError,
)
from churn_serving.http.api.endpoint import Endpoint, refusal
from churn_serving.http.api.v2 import CaseRequest, PredictionV2, prediction
from churn_serving.model.policy import rank
from churn_serving.schema import EXAMPLE, Request

if TYPE_CHECKING:
    from churn_serving.inference.prediction import Predictor
    from churn_serving.model.artifact import RegisteredModel

__all__ = ["PREDICT_BATCH", "BatchAnswer", "BatchRequest"]

MAX_ITEMS: Final = 1000
MAX_BATCH_BYTES: Final = 1024**2

_SLICE: Final = 64
"""Customers that are worked on before others have their turn: a millisecond or two."""

_MAX_NAMES: Final = 32
"""No object of a request has so many fields; to complain of each of a hundred thousand would take
longer than all else."""

_MAX_MARKS: Final = 80 * MAX_ITEMS
"""Brackets and colons in a body, even if every id is made of them. A megabyte of nothing else would
be read for longer than anybody should wait."""

_MAX_DETAIL: Final = 10
"""Reasons that are told of one item."""


class BatchRequest(Request):
    """Between 1 and 1,000 customers, and how many of them can be contacted."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "items": [
                    {"customer_id": "7590-VHVEG", "customer": EXAMPLE},
                    {"customer_id": "5575-GNVDE", "customer": {**EXAMPLE, "tenure_months": 1}},
                ],
                "capacity": 1,
            }
        }
    )

    items: Annotated[
        # Each is validated when its turn comes.
        list[SkipValidation[CaseRequest]],
        Field(min_length=1, max_length=MAX_ITEMS, description="The customers."),
    ]
    capacity: Annotated[
        int | None, Field(ge=1, description="The most customers that can be contacted.")
    ] = None
    budget: Annotated[
        float | None,
        Field(
            gt=0,
            description="The most that the contacts may be expected to cost together, in dollars.",
        ),
    ] = None


class ItemDetail(TypedDict):
    """One reason why an item was refused; never holds the submitted value."""

    loc: Annotated[list[str | int], Field(description="Where in the item.")]
    msg: Annotated[str, Field(description="What was expected there.")]
    type: Annotated[str, Field(description="The kind of failure, for programs.")]


class ItemError(TypedDict):
    """The answer about an item that cannot be answered."""

    error: Annotated[str, Field(description="What is wrong with it, in one sentence.")]
    detail: Annotated[list[ItemDetail], Field(description="Each reason, up to ten.")]


class Totals(TypedDict):
    """What a batch comes to."""

    customers: Annotated[int, Field(ge=0, description="Items that were answered.")]
    refused: Annotated[int, Field(ge=0, description="Items that were not.")]
    contacts: Annotated[int, Field(ge=0, description="Customers in the ranking.")]
    control: Annotated[int, Field(ge=0, description="Customers kept apart as a control group.")]
    expected_profit: Annotated[float, Field(ge=0, description="Of the ranking, in dollars.")]
    expected_cost: Annotated[float, Field(ge=0, description="Of the ranking, in dollars.")]


class BatchAnswer(TypedDict):
    """The answer of ``POST /api/v2/predict/batch``."""

    results: Annotated[
        list[PredictionV2 | ItemError], Field(description="In the order of the items.")
    ]
    ranking: Annotated[
        list[Annotated[int, Field(ge=0)]],
        Field(
            description="Whom to contact, the most profitable first: places in items, within "
            "capacity and budget."
        ),
    ]
    totals: Totals
    model_version: str
    policy_version: str


_validate_item: Final = TypeAdapter(CaseRequest).validator.validate_python
_validate_batch: Final = TypeAdapter(BatchRequest).validator.validate_python


class _Batch(NamedTuple):
    """A batch that was worked on.

    Attributes:
        model: Which answered.
        results: The answers as JSON, a slice each, without brackets.
        rest: What else there is to answer.
    """

    model: RegisteredModel
    results: list[bytes]
    rest: dict[str, Any]


class _BatchEndpoint(Endpoint[BatchRequest, _Batch, BatchAnswer]):
    """The route of batches, whose items are validated when their turn comes."""

    def parse(self, body: bytes) -> BatchRequest:
        """Return the body, of which all but the items is valid.

        Raises:
            MalformedBodyError: The body is not JSON.
            ValidationFailedError: The body breaks the schema; the detail says where.
        """
        if sum(map(body.count, (b"[", b"{", b":"))) > _MAX_MARKS:
            raise ValidationFailedError(
                "The request body is no batch.",
                [{"loc": [], "msg": "Input has too many parts for a batch", "type": "too_long"}],
            )
        try:
            # What is no number, as Python's json writes it, is the fault of the item that has it.
            document = from_json(body)
        except ValueError as error:
            raise MalformedBodyError(
                "The request body is not valid JSON.",
                [{"loc": [], "msg": f"Invalid JSON: {error}", "type": "json_invalid"}],
            ) from None
        _require_few_fields(document, [])
        try:
            return _validate_batch(document)  # type: ignore[no-any-return]  # pydantic-core's own
        except ValidationError as error:
            raise refusal(error) from None


async def _score(predictor: Predictor, request: BatchRequest) -> _Batch:
    """Work on a batch.

    Raises:
        DeadlineExceededError: There is more to do, and the caller waits no longer.
        ChurnServingError: What ``Predictor.decide_many`` raises, but for what an item is to blame
            for: that is its answer.
    """
    items, policy = request.items, predictor.policy
    profit, cost = np.zeros(len(items)), np.zeros(len(items))
    may_be_contacted = np.zeros(len(items), bool)
    answered = control = 0
    results: list[bytes] = []
    failures: list[ScoringError] = []
    first_places: dict[str, int] = {}
    for first in range(0, len(items), _SLICE):
        if first:
            await asyncio.sleep(0)
            if perf_counter() > context.deadline():
                raise DeadlineExceededError("The batch was not done in time.")
        answers: dict[int, PredictionV2 | ItemError] = {}
        cases: dict[int, CaseRequest] = {}
        for place, item in enumerate(items[first : first + _SLICE], first):
            try:
                cases[place] = case = _case(item)
                _require_first(case, place, first_places)
                if predictor.explains_slowly and "max_reasons" not in case.model_fields_set:
                    case.max_reasons = 0
            except RequestError as error:
                cases.pop(place, None)
                answers[place] = {"error": str(error), "detail": error.detail[:_MAX_DETAIL]}
        decided = await _decide(predictor, cases, failures)
        for place in cases:
            if (answer := decided.get(place)) is None:
                answers[place] = {"error": str(failures[-1]), "detail": []}
                continue
            answers[place] = answer
            answered += 1
            action = answer["decision"]["action"]
            may_be_contacted[place] = action == "contact"
            control += action == "control"
            profit[place] = answer["decision"]["expected_profit"]
            cost[place] = policy.expected_cost(answer["churn_probability"])
        results.append(to_json([answers[place] for place in sorted(answers)])[1:-1])
    if failures and not answered:
        raise failures[-1]
    ranking = rank(profit, cost, may_be_contacted, capacity=request.capacity, budget=request.budget)
    totals: Totals = {
        "customers": answered,
        "refused": len(items) - answered,
        "contacts": len(ranking),
        "control": control,
        "expected_profit": float(profit[ranking].sum()),
        # Added up one by one, as ``rank`` does: a budget of that sum is enough for the same ones.
        "expected_cost": float(cost[ranking].cumsum()[-1]) if len(ranking) else 0.0,
    }
    rest = {
        "ranking": ranking.tolist(),
        "totals": totals,
        "model_version": predictor.model.version,
        "policy_version": policy.version,
    }
    return _Batch(predictor.model, results, rest)


async def _decide(
    predictor: Predictor, cases: dict[int, CaseRequest], failures: list[ScoringError]
) -> dict[int, PredictionV2]:
    """Return the answers about customers, by place; one that the model fails on has none."""
    if not cases:
        return {}
    try:
        scored = await predictor.decide_many(list(cases.values()))
    except ScoringError as error:
        failures.append(error)
        if len(cases) == 1:
            return {}
        # One of them is to blame: each by itself.
        alone: dict[int, PredictionV2] = {}
        for place, case in cases.items():
            alone |= await _decide(predictor, {place: case}, failures)
        return alone
    return {place: prediction(scored, index) for index, place in enumerate(cases)}


def _case(item: Any) -> CaseRequest:  # noqa: ANN401 - it may be anything yet
    if type(item) is not dict:
        raise ValidationFailedError(
            "An item is an object.",
            [{"loc": [], "msg": "Input should be an object", "type": "object_type"}],
        )
    _require_few_fields(item, [])
    _require_few_fields(item.get("customer"), ["customer"])
    try:
        return _validate_item(item)  # type: ignore[no-any-return]  # pydantic-core's own
    except ValidationError as error:
        raise refusal(error) from None


def _require_few_fields(value: object, loc: list[str | int]) -> None:
    if type(value) is dict and len(value) > _MAX_NAMES:
        raise ValidationFailedError(
            "1 field is missing or invalid.",
            [{"loc": loc, "msg": f"Input has more than {_MAX_NAMES} fields", "type": "too_long"}],
        )


def _require_first(case: CaseRequest, place: int, first_places: dict[str, int]) -> None:
    """Let no customer be contacted twice."""
    if case.customer_id is None:
        return
    first = first_places.setdefault(str(case.customer_id), place)
    if first != place:
        raise ValidationFailedError(
            f"This customer_id is that of item {first}, too; the first one is answered.",
            [
                {
                    "loc": ["customer_id"],
                    "msg": f"Input should be another one than that of item {first}",
                    "type": "repeated",
                }
            ],
        )


def _encode(batch: _Batch) -> bytes:
    return b'{"results":[%b],%b' % (b",".join(batch.results), to_json(batch.rest)[1:])


def _same(batch: _Batch) -> _Batch:
    return batch


PREDICT_BATCH: Final = _BatchEndpoint(
    path="/api/v2/predict/batch",
    name="predict_batch_v2",
    summary="Decide about 1 to 1,000 customers, and whom to contact first.",
    request=BatchRequest,
    response=BatchAnswer,
    score=_score,
    render=_same,
    encode=_encode,
    max_body_bytes=MAX_BATCH_BYTES,
)
