"""The total of a customer in the first month: what that month costs, if nothing is billed yet.

Billing systems leave the total blank until the first bill is paid. Training, the API's second
version and bulk scoring repair it by this one rule, for one customer or for a column of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray

__all__ = ["FIRST_MONTHS", "first_total", "with_first_totals"]

FIRST_MONTHS: Final = (0, 1)
"""The values of ``tenure_months`` in the first month: some systems count from 0, some from 1."""


def first_total(tenure_months: float, monthly_charges: float) -> float | None:
    """Return the total of a customer who has none yet; None if one must be known by now."""
    return monthly_charges if tenure_months in FIRST_MONTHS else None


def with_first_totals(
    *,
    tenure_months: FloatArray,
    monthly_charges: FloatArray,
    total_charges: FloatArray,
    missing: NDArray[np.bool_],
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Fill the missing totals of customers in the first month.

    Returns:
        The totals (a new array if any was filled), and which of them were filled.
    """
    filled = missing & np.isin(tenure_months, FIRST_MONTHS)
    if not filled.any():
        return total_charges, filled
    return np.where(filled, monthly_charges, total_charges), filled
