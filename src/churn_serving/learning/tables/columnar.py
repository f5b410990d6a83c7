"""Tables in Parquet files."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet

from churn_serving.learning.tables.parts import MAX_ROWS, Part, too_many_rows
from churn_serving.learning.tables.typed import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from churn_serving.learning.tables.parts import Planner

__all__ = ["MAGIC", "read_columns"]

MAGIC: Final = b"PAR1"

_BATCH_ROWS: Final = 1 << 17


def read_columns(
    file: IO[bytes],
    folders: Mapping[str, str],
    planner: Planner,
    progress: Callable[[int, int], None],
) -> Part:
    """Read the columns that are planned from a Parquet file.

    Args:
        file: The file, to be read from any place.
        folders: Further columns of one value each, that the names of its folders hold.
        planner: Says which columns are read.
        progress: Told how many rows were read, and of how many.

    Raises:
        DataError: A column is missing, or of a type that cannot be read.
        ArrowException: The file is damaged.
    """
    table = pyarrow.parquet.ParquetFile(file, memory_map=False)
    own = tuple(table.schema_arrow.names)
    total = table.metadata.num_rows
    if total > MAX_ROWS:
        raise too_many_rows(total)
    plan = planner((*own, *(name for name in folders if name not in own)))
    wanted = [name for name in plan.keys.values() if name in own]
    rows = 0
    batches: list[Mapping[str, Any]] = []
    for batch in table.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
        batch.validate(full=True)  # a damaged file may hold texts that are none
        arrays = {}
        for column, role in plan.roles.items():
            name = plan.keys[column]
            if name in own:
                array = batch.column(batch.schema.get_field_index(name))
            else:
                array = pa.array([folders[name]] * batch.num_rows, pa.string())
            arrays[column] = canonical(array, role, plan.names[column])
        batches.append(arrays)
        rows += batch.num_rows
        progress(rows, total)
    return Part(plan, rows, batches)
