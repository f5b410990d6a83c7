"""Who plays: the fields of a customer, and which of them are shown as one reason."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from churn_serving.features.columns import CATEGORIES, FEATURE_NAMES

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray

__all__ = ["CODES", "GROUPS", "OTHER", "PLAYER_OF_COLUMN", "SPANS", "shapley_weights"]

_TOGETHER: Final = (("tenure_months", "total_charges"),)
"""Fields that move together in life: neither's impact alone would tell anything."""

OTHER: Final = "other"
"""The code of all groups that are not shown."""


def _groups() -> tuple[tuple[int, ...], ...]:
    """Return the groups, each where its first field stands."""
    together = {fields[0]: fields for fields in _TOGETHER}
    later = {name for fields in _TOGETHER for name in fields[1:]}
    return tuple(
        tuple(map(FEATURE_NAMES.index, together.get(name, (name,))))
        for name in FEATURE_NAMES
        if name not in later
    )


GROUPS: Final = _groups()
"""The fields that make a reason, by their places in ``FEATURE_NAMES``."""

CODES: Final = tuple("_and_".join(FEATURE_NAMES[field] for field in group) for group in GROUPS)
"""The stable name of each group."""

_WIDTHS: Final = [len(CATEGORIES.get(name, (name,))) for name in FEATURE_NAMES]

SPANS: Final = tuple(pairwise(accumulate(_WIDTHS, initial=0)))
"""The columns of each field: the first, and the one behind the last."""

PLAYER_OF_COLUMN: Final = np.repeat(np.arange(len(FEATURE_NAMES)), _WIDTHS)
"""The field of each column, by its place."""


def shapley_weights(players: int) -> FloatArray:
    """Return what makes Shapley values of the worth of every coalition: ``worth @ weights``.

    Args:
        players: How many. Coalition ``s`` has player ``i`` if bit ``i`` of ``s`` is set.

    Returns:
        Shape ``(2**players, players)``.
    """
    coalitions = np.arange(2**players)
    member = (coalitions[:, None] >> np.arange(players) & 1).astype(np.bool_)
    size = member.sum(axis=1)[:, None]
    orders = [math.factorial(n) for n in range(players + 1)]
    # Of all orders of arrival, in how many this player is the last of the coalition, or the next.
    last = np.array([0, *(orders[n - 1] * orders[players - n] for n in range(1, players + 1))])
    following = np.array([*(orders[n] * orders[players - n - 1] for n in range(players)), 0])
    weights: FloatArray = np.where(member, last[size], -following[size]) / orders[players]
    return weights
