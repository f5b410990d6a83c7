"""The total of customers in the first month: what that month costs, if nothing is billed yet.

Billing systems leave the total blank until the first bill is paid. ``CustomerV2`` repairs it for
one customer; training and bulk scoring do it here, by the same rule, for a column of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from churn_serving.fields import FIRST_MONTHS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray

__all__ = ["with_first_totals"]


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
