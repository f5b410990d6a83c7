"""What the readers of each kind of file hand over: the columns of a table, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from churn_serving.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from churn_serving.features.layouts import Plan

__all__ = ["MAX_ROWS", "ArrowArray", "ArrowBatch", "Part", "Planner", "too_many_rows"]

ArrowArray: TypeAlias = Any
ArrowBatch: TypeAlias = Any
"""Arrow ships no type information."""

MAX_ROWS: Final = 50_000_000
"""More customers than one machine can train on; a file of a few bytes may claim more."""

Planner: TypeAlias = "Callable[[Sequence[str]], Plan]"
"""Says which columns are read, by their names."""


@dataclass(frozen=True, slots=True)
class Part:
    """The columns that were read of one file.

    Attributes:
        plan: What the columns are.
        rows: The number of rows.
        batches: Arrow arrays by column. A category is a dictionary of texts; a number is a text
            or a float64; a time is a text, a float64 or a timestamp; an empty cell may be null.
        notes: What is unusual about the file, in a few words each.
        notices: What somebody should know about its rows, in a sentence each.
    """

    plan: Plan
    rows: int
    batches: Sequence[Mapping[str, ArrowArray]]
    notes: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def too_many_rows(rows: int) -> DataError:
    """Return the refusal of a table that is too long."""
    return DataError(
        f"The table has {rows:,} rows or more: expected at most {MAX_ROWS:,}. Take a sample."
    )
