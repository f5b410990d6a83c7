"""What a customer is, and what every request and answer has in common.

JSON types are strict (``"24"`` is no integer, ``1`` is no boolean), unknown fields are refused,
and NaN and the infinities are no numbers. The field descriptions appear in the API documentation.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from churn_serving.fields import FIRST_MONTHS

__all__ = [
    "EXAMPLE",
    "MAX_BATCH_ITEMS",
    "ContractType",
    "Customer",
    "CustomerV2",
    "Outcome",
    "PaymentMethod",
    "Request",
]

MAX_BATCH_ITEMS: Final = 100

ContractType = Literal["month-to-month", "one-year", "two-year"]
PaymentMethod = Literal["electronic", "mailed", "bank", "credit"]
Outcome = Annotated[
    Literal[0, 1], Field(description="1: the customer is predicted to leave; 0: to stay.")
]

EXAMPLE: Final[dict[str, JsonValue]] = {
    "tenure_months": 2,
    "monthly_charges": 70.7,
    "total_charges": 151.65,
    "num_products": 2,
    "has_phone_service": True,
    "has_internet": True,
    "contract_type": "month-to-month",
    "payment_method": "electronic",
}


class Request(BaseModel):
    """What every request model has in common."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Customer(Request):
    """One customer as the company's billing system knows them."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    tenure_months: Annotated[int, Field(ge=0, le=120, description="Months as a customer.")]
    monthly_charges: Annotated[
        float, Field(ge=0, le=500, description="Charge of the current month, in dollars.")
    ]
    total_charges: Annotated[
        float,
        Field(
            ge=0,
            le=1_000_000,
            description="All charges so far, in dollars; at least monthly_charges.",
        ),
    ]
    num_products: Annotated[
        int,
        Field(
            ge=1,
            le=10,
            description="Number of subscribed services: phone, multiple lines, internet, online "
            "security, online backup, device protection, tech support, streaming TV, "
            "streaming movies.",
        ),
    ]
    has_phone_service: Annotated[bool, Field(description="Subscribes to the phone service.")]
    has_internet: Annotated[bool, Field(description="Subscribes to an internet service.")]
    contract_type: Annotated[ContractType, Field(description="The term of the contract.")]
    payment_method: Annotated[
        PaymentMethod,
        Field(
            description="How bills are paid: electronic check, mailed check, automatic bank "
            "transfer or automatic credit card payment."
        ),
    ]

    @field_validator("total_charges")
    @classmethod
    def _covers_the_current_month(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("monthly_charges", value):
            raise PydanticCustomError(
                "less_than_monthly_charges",
                "Input should be greater than or equal to monthly_charges",
            )
        return value


class CustomerV2(Customer):
    """A customer who, in the first month, need not have a total yet."""

    total_charges: Annotated[
        float | None,
        Field(
            ge=0,
            le=1_000_000,
            description="All charges so far, in dollars; at least monthly_charges. May be left out "
            "in the first month (tenure_months 0 or 1), when it is monthly_charges.",
            validate_default=True,
        ),
    ] = None  # type: ignore[assignment]  # once validated, it is a number

    @field_validator("total_charges")
    @classmethod
    def _covers_the_current_month(cls, value: float | None, info: ValidationInfo) -> float:
        known = info.data
        monthly = known.get("monthly_charges")
        if value is None:
            # What is wrong with the other fields is said of them.
            if known.get("tenure_months", 0) in FIRST_MONTHS:
                return monthly or 0.0
            raise PydanticCustomError(
                "missing_after_first_month", "Input is required after the first month"
            )
        if monthly is not None and value < monthly:
            raise PydanticCustomError(
                "less_than_monthly_charges",
                "Input should be greater than or equal to monthly_charges",
            )
        return value
