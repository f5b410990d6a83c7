"""The fields of a customer as plain data, for those who check whole tables.

``churn_serving.schema.Customer`` says the same of one customer, to pydantic and to people; a test
holds them equal. An executor of Spark has numpy and pyarrow, and no pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FIELDS", "FIRST_MONTHS", "Field", "Kind"]

Kind: TypeAlias = Literal["whole", "number", "flag", "category"]


class Field(NamedTuple):
    """One field.

    Attributes:
        kind: A number, which may have to be a whole one; true or false; or one of some values.
        low: The smallest number.
        high: The largest number.
        values: Those of a category.
    """

    kind: Kind
    low: float = 0
    high: float = 1
    values: tuple[str, ...] = ()


FIELDS: Final[Mapping[str, Field]] = {
    "tenure_months": Field("whole", 0, 120),
    "monthly_charges": Field("number", 0, 500),
    "total_charges": Field("number", 0, 1_000_000),
    "num_products": Field("whole", 1, 10),
    "has_phone_service": Field("flag"),
    "has_internet": Field("flag"),
    "contract_type": Field("category", values=("month-to-month", "one-year", "two-year")),
    "payment_method": Field("category", values=("electronic", "mailed", "bank", "credit")),
}
"""In the order of the columns."""

FIRST_MONTHS: Final = (0, 1)
"""The values of ``tenure_months`` in the first month: some systems count from 0, some from 1."""
