"""Those of a run whom to contact first: a list for people, a CSV file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from churn_serving.bulk.columns import without_views
from churn_serving.bulk.run import SCORED, give_name, scratch_of
from churn_serving.model.policy import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from churn_serving.bulk.columns import ArrowBatch
    from churn_serving.bulk.run import Run
    from churn_serving.bulk.tables import Piece

__all__ = ["TOP", "write_best"]

TOP: Final = "top.csv"
_LEFT_OUT: Final = ("action", "model_version", "policy_version")


def write_best(run: Run, pieces: Iterable[Piece], limit: int) -> str:
    """Write those with the highest expected profit, of two alike the one that comes first.

    Returns:
        The name of the file.
    """
    best = None
    for piece in pieces:
        path = run.part(SCORED, piece)
        if not path.exists():
            continue
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(use_threads=False):
                found = _contacts(batch)
                if best is not None:
                    found = pa.concat_tables([best, found]).unify_dictionaries()
                order = np.argsort(-found.column("expected_profit").to_numpy(), kind="stable")
                best = found.take(pa.array(order[:limit]))
    path = run.folder / TOP
    if best is not None:
        plain = best.drop_columns([name for name in _LEFT_OUT if name in best.column_names])
        for place, field in enumerate(plain.schema):
            plain = plain.set_column(place, field.name, _writable(plain.column(place)))
        pyarrow.csv.write_csv(plain, scratch_of(path))
        give_name(path)
    return TOP


def _writable(column: Any) -> Any:  # noqa: ANN401 - Arrow ships no type information
    """Return a column of a type that a cell of a CSV file can hold: anything can be a text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if not (
        pa.types.is_nested(kind)
        or "binary" in str(kind)
        or isinstance(kind, pa.BaseExtensionType)
        or pa.types.is_string_view(kind)
    ):
        return column
    return pa.array([_text(value) for value in column.to_pylist()], pa.string())


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    return None if value is None else str(value)


def _contacts(batch: ArrowBatch) -> Any:  # noqa: ANN401 - Arrow ships no type information
    columns = [without_views(column) for column in batch.columns]
    table = pa.table(columns, names=batch.schema.names)
    actions = batch.column("action")
    contact = np.array([word == ACTIONS[0] for word in actions.dictionary.to_pylist()])
    return table.filter(pa.array(contact[actions.indices.to_numpy()]))
