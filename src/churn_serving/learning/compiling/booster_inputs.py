"""What a booster sees of a customer, as a JSON file says it.

The file lists an input for each of the booster's features, in the booster's order::

    {"inputs": [
        {"column": "tenure_months", "mean": 32.4, "scale": 24.5},
        {"column": "monthly_charges", "factor": 0.01, "offset": -0.2},
        {"column": "has_internet"},
        {"field": "contract_type", "codes": {"month-to-month": 0, "one-year": 1, "two-year": 2}}
    ]}

The first is ``(x - mean) / scale``, the second ``x * factor + offset``, in float64. Codes are what
stands for each value of a category, for trees that split by order or by category alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from churn_serving.errors import UnsupportedEstimatorError
from churn_serving.features.columns import CATEGORIES, COLUMN_NAMES
from churn_serving.learning.compiling.inputs import Cases, Frame, Numeric

if TYPE_CHECKING:
    from pathlib import Path

    from churn_serving.learning.compiling.inputs import Step

__all__ = ["read_inputs"]


class _Input(BaseModel):
    """One feature of the booster."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    column: str | None = None
    mean: float = 0
    scale: Annotated[float, Field(gt=0)] = 1
    factor: Annotated[float, Field(gt=0)] = 1
    offset: float = 0
    field: str | None = None
    codes: dict[str, float] = {}

    def seen(self) -> Numeric | Cases:
        """Return what the booster sees.

        Raises:
            ValueError: That makes no sense.
        """
        given = self.model_fields_set
        if self.field is not None and given == {"field", "codes"}:
            values = CATEGORIES.get(self.field)
            if values is None or set(values) != set(self.codes):
                known = "; ".join(f"{name}: {', '.join(v)}" for name, v in CATEGORIES.items())
                raise ValueError(
                    f"'{self.field[:80]}' needs a code for each of its values ({known})"
                )
            return Cases(
                tuple((COLUMN_NAMES.index(f"{self.field}={value}"), 1.0) for value in values),
                tuple(self.codes[value] for value in values),
            )
        steps: list[Step] = []
        if given & {"mean", "scale"}:
            steps = [(np.subtract, self.mean), (np.divide, self.scale)]
        if given & {"factor", "offset"}:
            steps += [(np.multiply, self.factor), (np.add, self.offset)]
        mixed = len(steps) > 2 or bool(given & {"field", "codes"})  # noqa: PLR2004 - of one kind
        if self.column is None or mixed:
            raise ValueError(
                "an input is a column, with mean and scale, or factor and offset, or neither, or "
                "it is a field with codes"
            )
        if self.column not in COLUMN_NAMES:
            raise ValueError(f"there is no column '{self.column[:80]}' ({', '.join(COLUMN_NAMES)})")
        return Numeric(COLUMN_NAMES.index(self.column), tuple(steps))


class _Inputs(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inputs: Annotated[tuple[_Input, ...], Field(min_length=1)]


def read_inputs(path: Path) -> Frame:
    """Return the columns that a file describes.

    Raises:
        UnsupportedEstimatorError: It describes none; the sentence says where it is wrong.
    """
    try:
        inputs = _Inputs.model_validate_json(path.read_bytes()).inputs
        return Frame(tuple(one.seen() for one in inputs))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"])
        reason = f"{first['msg'][:200]} at '{where}'"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise UnsupportedEstimatorError(
        f"{path.name} does not say what the booster sees of a customer: {reason}."
    )
