"""``/api/v2``: what to do about a customer, what that is worth, why the estimate is what it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from churn_serving.http.api.endpoint import Endpoint
from churn_serving.inference.prediction import Predictor
from churn_serving.model.policy import Action  # noqa: TC001 - pydantic reads the annotations
from churn_serving.model.reasons.players import GROUPS
from churn_serving.model.reasons.sentences import Reason  # noqa: TC001 - likewise
from churn_serving.schema import EXAMPLE, CustomerV2, Request

if TYPE_CHECKING:
    from churn_serving.inference.prediction import Scored
    from churn_serving.model.policy import Policy

__all__ = [
    "POLICY",
    "PREDICT",
    "CaseRequest",
    "PolicyAnswer",
    "PredictionV2",
    "policy_answer",
    "prediction",
]

POLICY: Final = "/api/v2/policy"

_MAX_REASONS: Final = len(GROUPS)
_DEFAULT_REASONS: Final = 3
_MAX_ID: Final = 64
# Control characters, invisible ones, and such as turn the direction of writing.
_PRINTABLE: Final = (
    r"^[^\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff0-\uffff]+$"
)
_is_printable: Final = re.compile(_PRINTABLE).fullmatch
_INT64: Final = 2**63


def _customer_id(value: object) -> str | int | None:
    """Let an id pass, as it is.

    One validator and no union: that would complain once for each of its members.
    """
    if value is None:
        return None
    # A bool is an int to isinstance.
    if type(value) is int and -_INT64 <= value < _INT64:
        return value
    if isinstance(value, str) and len(value) <= _MAX_ID and _is_printable(value):
        return value
    raise PydanticCustomError(
        "customer_id", "Input should be text of 1 to 64 printable characters, or a 64-bit integer"
    )


CustomerId = Annotated[
    str | int | None,
    PlainValidator(_customer_id),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": _MAX_ID, "pattern": _PRINTABLE},
                {"type": "integer", "minimum": -_INT64, "maximum": _INT64 - 1},
                {"type": "null"},
            ]
        }
    ),
]


class CaseRequest(Request):
    """A customer about whom a decision is to be made."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"customer_id": "7590-VHVEG", "customer": EXAMPLE, "customer_value": 250.0}
        }
    )

    customer_id: Annotated[
        CustomerId,
        Field(description="As the company knows the customer. It comes back as it came."),
    ] = None
    customer: Annotated[CustomerV2, Field(description="What the model sees of the customer.")]
    customer_value: Annotated[
        float | None,
        Field(
            gt=0,
            le=1e9,
            description="What it is worth to keep this customer, in dollars. Left out: what the "
            "policy says of everybody.",
        ),
    ] = None
    max_reasons: Annotated[
        int,
        Field(
            ge=0,
            le=_MAX_REASONS,
            description="How many reasons are told one by one; the rest is summed in the last one, "
            "'other'. With 0 none are computed; nor in a batch that does not say this, if the "
            "model is of a kind whose reasons take long (forests, isotonic calibration).",
        ),
    ] = _DEFAULT_REASONS
    what_if: Annotated[
        bool,
        Field(
            description="Somebody is only trying: answered alike, but left out of the service's "
            "figures of customers."
        ),
    ] = False


class DecisionAnswer(TypedDict):
    """What the policy says about a customer."""

    action: Annotated[
        Action,
        Field(
            description="contact: it is expected to pay. leave_alone: it is not. control: it is, "
            "but the customer is left alone all the same, to learn what contacts are worth."
        ),
    ]
    expected_profit: Annotated[
        float, Field(description="What a contact is expected to gain, in dollars; an estimate.")
    ]
    threshold: Annotated[
        float | None,
        Field(
            description="From which churn probability on a contact of this customer is expected to "
            "pay. Above 1: never; null: at none, whatever the probability."
        ),
    ]
    break_even_acceptance: Annotated[
        float | None,
        Field(
            description="Which share of leavers must accept the offer for a contact to pay. Above "
            "1: it cannot; null: no share is enough."
        ),
    ]


class PredictionV2(TypedDict):
    """The answer about one customer."""

    customer_id: Annotated[CustomerId, Field(description="As it came.")]
    churn_probability: Annotated[
        float, Field(ge=0, le=1, description="Estimated probability that the customer leaves.")
    ]
    decision: DecisionAnswer
    baseline: Annotated[
        float | None,
        Field(
            description="The average estimate of the customers compared with, in log-odds. "
            "1 / (1 + exp(-(baseline + all impacts))) is the churn probability. Null where no "
            "reasons are told."
        ),
    ]
    reasons: Annotated[
        list[Reason] | None,
        Field(
            description="The fields that move the estimate most, strongest first. They explain the "
            "estimate and are no causes. Null if the model was registered without, or none were "
            "asked for."
        ),
    ]
    model_version: Annotated[str, Field(description="Version of the model that answered.")]
    policy_version: Annotated[
        str, Field(description="The beginning of the policy's SHA-256; see /api/v2/policy.")
    ]


class PolicyFigures(TypedDict):
    """The figures of a policy."""

    customer_value: Annotated[float, Field(description="What a customer is worth, in dollars.")]
    offer_cost: Annotated[float, Field(description="What an accepted offer costs, in dollars.")]
    contact_cost: Annotated[float, Field(description="What a contact costs, in dollars.")]
    acceptance: Annotated[
        float, Field(description="The probability that a leaver who is contacted stays.")
    ]
    control_share: Annotated[
        float, Field(description="The share of those to be contacted who are kept apart.")
    ]


class PolicyAnswer(TypedDict):
    """The answer of ``GET /api/v2/policy``."""

    policy: PolicyFigures
    policy_version: str
    threshold: Annotated[
        float | None,
        Field(description="From which churn probability on a contact is expected to pay."),
    ]


def policy_answer(policy: Policy) -> PolicyAnswer:
    """Return what ``GET /api/v2/policy`` answers."""
    return {
        "policy": policy.figures,  # type: ignore[typeddict-item]  # the same names: a test holds it
        "policy_version": policy.version,
        "threshold": policy.threshold,
    }


def prediction(scored: Scored, place: int = 0) -> PredictionV2:
    """Return the answer about one of the customers that were scored."""
    decision, reasons = scored.decisions[place], scored.reasons[place]
    return {
        "customer_id": scored.cases[place].customer_id,
        "churn_probability": scored.probabilities[place],
        "decision": {
            "action": decision.action,
            "expected_profit": decision.expected_profit,
            "threshold": decision.threshold,
            "break_even_acceptance": decision.break_even_acceptance,
        },
        "baseline": None if reasons is None else scored.baseline,
        "reasons": reasons,
        "model_version": scored.model.version,
        "policy_version": scored.policy_version,
    }


PREDICT: Final = Endpoint(
    path="/api/v2/predict",
    name="predict_v2",
    summary="Estimate whether one customer will leave, decide whether to contact them, say why.",
    request=CaseRequest,
    response=PredictionV2,
    score=Predictor.decide_one,
    render=prediction,
)
