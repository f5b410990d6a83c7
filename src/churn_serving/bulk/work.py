"""What is done with one piece of a table: score it, write its parts, and count."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from churn_serving.bulk.identities import hashes_of, write_hashes
from churn_serving.bulk.run import REJECTED, SCORED, give_name, scratch_of
from churn_serving.bulk.tables import batches
from churn_serving.errors import DataError
from churn_serving.model.policy import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from churn_serving.bulk.columns import ArrowBatch, ArrowSchema
    from churn_serving.bulk.engine import Engine
    from churn_serving.bulk.run import Run
    from churn_serving.bulk.tables import Batch, Piece

__all__ = ["Work"]

_COMPRESSION: Final = "snappy"
_TEXTS: Final = pa.dictionary(pa.int16(), pa.string())


class Work:
    """Scores the pieces of one run.

    Args:
        engine: Scores their batches.
        run: Where the parts are written.
        schema: That of the table.
    """

    def __init__(self, engine: Engine, run: Run, schema: ArrowSchema) -> None:
        self._engine = engine
        self._run = run
        self._scored = engine.scored_schema(schema)
        self._rejected = engine.rejected_schema(schema).append(pa.field("file", _TEXTS))
        self._rejected = self._rejected.append(pa.field("row", pa.int64()))

    def do(self, piece: Piece, told: Callable[[int], None]) -> dict[str, Any]:
        """Score a piece and write its parts, and then its receipt.

        Args:
            piece: Of the run's table.
            told: Told how many rows more are done.

        Returns:
            The receipt.

        Raises:
            DataError: The file is damaged, or was changed.
            OSError: The parts cannot be written.
        """
        done = _Done()
        scored = _Part(self._run.part(SCORED, piece), self._scored)
        rejected = _Part(self._run.part(REJECTED, piece), self._rejected)
        try:
            for batch in batches(piece, self._engine):
                if batch.content is None:
                    refused = self._other_lines(batch)
                    rows = batch.rows
                else:
                    good, refused, places = self._engine.score(batch.content)
                    rows = batch.rows[places]
                    scored.write(good)
                    done.count(good)
                rejected.write(_placed(refused, piece, rows))
                done.reasons.update(refused.column("reason").to_pylist())
                told(len(batch.rows))
            _require_all(piece, scored.rows + rejected.rows)
            sizes = {part.name: part.finish() for part in (rejected, scored) if part.rows}
        except BaseException:
            scored.discard()
            rejected.discard()
            raise
        write_hashes(self._run.ids(piece), done.ids)
        receipt = {
            "piece": piece.number,
            "file": piece.file.name,
            "rows": piece.rows,
            "scored": scored.rows,
            "rejected": rejected.rows,
            "actions": {name: done.actions[name] for name in ACTIONS},
            "expected_profit": done.profit,
            "reasons": dict(done.reasons),
            "parts": sizes,
        }
        self._run.finish(piece, receipt)
        return receipt

    def _other_lines(self, batch: Batch) -> ArrowBatch:
        """Return lines of a text that are no rows as refused rows, of nobody."""
        kinds = {one.name: one.type for one in self._rejected}
        columns = [
            pa.nulls(len(batch.rows), kinds["customer_id"]),
            pa.nulls(len(batch.rows), pa.string()).dictionary_encode(),
            pa.array(batch.problems, pa.string()).dictionary_encode(),
        ]
        return pa.record_batch(columns, names=["customer_id", "field", "reason"])


class _Done:
    """What a piece's customers add up to."""

    def __init__(self) -> None:
        self.actions: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.profit = 0.0
        self.ids: list[NDArray[np.uint64]] = []

    def count(self, good: ArrowBatch) -> None:
        """Count the customers of a batch."""
        actions = good.column("action").indices.to_numpy()
        numbers = np.bincount(actions, minlength=len(ACTIONS)).tolist()
        self.actions.update(dict(zip(ACTIONS, numbers, strict=True)))
        profits = good.column("expected_profit").to_numpy()
        self.profit += float(profits[actions == ACTIONS.index("contact")].sum())
        self.ids.append(hashes_of(good.column("customer_id")))


class _Part:
    """A Parquet file that has its name only when it is whole; none if it would have no rows."""

    def __init__(self, path: Path, schema: ArrowSchema) -> None:
        self.name = f"{path.parent.name}/{path.name}"
        self.rows = 0
        self._path = path
        self._schema = schema
        self._writer: Any = None

    def write(self, batch: ArrowBatch) -> None:
        """Write some rows."""
        if not batch.num_rows:
            return
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(
                scratch_of(self._path),
                self._schema,
                compression=_COMPRESSION,
                use_dictionary=[f.name for f in self._schema if pa.types.is_dictionary(f.type)],
            )
        self._writer.write_batch(batch.cast(self._schema))
        self.rows += batch.num_rows

    def finish(self) -> int:
        """Give the file its name, and return its size."""
        self._writer.close()
        return give_name(self._path)

    def discard(self) -> None:
        """Leave nothing of it."""
        if self._writer is not None:
            with suppress(OSError):  # what the disk had no space for cannot be ended either
                self._writer.close()
            with suppress(OSError):
                scratch_of(self._path).unlink(missing_ok=True)


def _placed(refused: ArrowBatch, piece: Piece, rows: NDArray[np.intp]) -> ArrowBatch:
    """Say where refused rows stand."""
    names = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(len(rows), np.int16)), pa.array([piece.file.name], pa.string())
    )
    refused = refused.append_column("file", names)
    return refused.append_column("row", pa.array(rows, pa.int64()))


def _require_all(piece: Piece, read: int) -> None:
    if read != piece.rows:
        raise DataError(
            f"In {piece.file.name}, after row {piece.before:,}, a quote stands where none "
            f"belongs: {piece.rows:,} rows were counted and {read:,} read. Mend it, and run the "
            "command again."
        )
