"""Parquet files: what their footer says, and some row groups at a time."""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.parquet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from churn_serving.bulk.columns import ArrowBatch, ArrowSchema
    from churn_serving.bulk.engine import Engine
    from churn_serving.bulk.tables import Piece

__all__ = ["look", "read"]

PIECE_ROWS: Final = 500_000
"""Small row groups are scored together, up to so many rows."""

BATCH_ROWS: Final = 131_072
_BUFFER: Final = 1 << 20
"""A column is read in parts of this size: a row group may be larger than memory."""
_END: Final = 8


def look(file: IO[bytes]) -> tuple[str, ArrowSchema, None, list[tuple[int, int, int, int]]]:
    """Return a digest of the footer, the columns, and where the file is cut.

    Raises:
        ArrowException: It is no whole Parquet file.
    """
    opened = pyarrow.parquet.ParquetFile(file)
    metadata = opened.metadata
    file.seek(-_END, 2)
    size = int.from_bytes(file.read(_END)[:4], "little")
    file.seek(-_END - size, 2)
    digest = hashlib.sha256(file.read(size)).hexdigest()
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    cuts, first, before, rows = [], 0, 0, 0
    for number, size in enumerate(sizes):
        if rows and rows + size > PIECE_ROWS:
            cuts.append((first, number, before, rows))
            first, before, rows = number, before + rows, 0
        rows += size
    if rows:
        cuts.append((first, len(sizes), before, rows))
    return digest, opened.schema_arrow, None, cuts


def read(piece: Piece, engine: Engine) -> Iterator[tuple[Any, ArrowBatch, tuple[()]]]:
    """Read row groups, some rows at a time."""
    with pyarrow.parquet.ParquetFile(
        piece.file.path, read_dictionary=list(engine.texts), buffer_size=_BUFFER, pre_buffer=False
    ) as file:
        before = piece.before
        for batch in file.iter_batches(
            BATCH_ROWS,
            row_groups=range(piece.first, piece.end),
            columns=list(engine.columns),
            use_threads=False,
        ):
            rows = np.arange(before + 1, before + 1 + batch.num_rows)
            yield rows, batch, ()
            before += batch.num_rows
