"""A batch of a table in, a batch of results and a batch of refused rows out.

This is the one function of bulk scoring: ``bulk.local`` and Spark only move batches to it. It needs
numpy and pyarrow, and can be pickled: that is how a process or an executor gets it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from churn_serving.bulk.columns import (
    check_types,
    read_fields,
    read_numbers,
    require_id_type,
    without_views,
)
from churn_serving.errors import DataError
from churn_serving.features.columns import (
    CATEGORIES,
    FEATURE_NAMES,
    Refused,
    first_reasons,
    matrix_of,
    refused_rows,
)
from churn_serving.features.layouts import plan_for, quoted
from churn_serving.fields import FIELDS
from churn_serving.model.policy import ACTIONS
from churn_serving.model.reasons.players import CODES, GROUPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from churn_serving.bulk.columns import ArrowArray, ArrowBatch, ArrowSchema
    from churn_serving.features.columns import FieldArrays, FloatArray
    from churn_serving.features.layouts import Plan
    from churn_serving.model.artifact import Artifact
    from churn_serving.model.policy import Policy
    from churn_serving.model.scoring import Scorer

__all__ = ["Engine", "Outcome", "Wanted", "make_engine", "value_column"]

ID: Final = "customer_id"
VALUE: Final = "customer_value"
MAX_VALUE: Final = 1e9

_CODES: Final = pa.dictionary(pa.int8(), pa.string())


class Outcome(NamedTuple):
    """What became of a batch.

    Attributes:
        scored: The customers, in the order of the batch.
        rejected: The rows that are no customers, likewise, each with a reason.
        rows: The places of these in the batch.
    """

    scored: ArrowBatch
    rejected: ArrowBatch
    rows: NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is read of a table, and returned of it.

    Attributes:
        id: The column of the customer's id; None: ``customer_id``, however it is spelled.
        keep: Further columns, returned as they are.
        reasons: How many of each customer, 0 to 7.
        journal: Whether the eight fields are returned, too.
    """

    id: str | None = None
    keep: tuple[str, ...] = ()
    reasons: int = 0
    journal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Scores the batches of one table. Not safe to call from two threads.

    Attributes:
        scorer: Of the model.
        impacts: Of the model's reasons: feature rows in, the impact of each field out; None: no
            reasons.
        policy: Decides whom to contact.
        threshold: Probabilities from here on are predicted as churn.
        model_version: Told of every customer.
        plan: What the table's columns are.
        id: The column of the id.
        value: The column of what a customer is worth; None: the policy knows.
        keep: Further columns, returned as they are.
        reasons: How many of each customer.
        journal: Whether the fields are returned.
    """

    scorer: Scorer
    impacts: Callable[[FloatArray], FloatArray] | None
    policy: Policy
    threshold: float
    model_version: str
    plan: Plan
    id: str
    value: str | None
    keep: tuple[str, ...]
    reasons: int
    journal: bool
    _policy_version: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_policy_version", self.policy.version)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that are read."""
        fields = [self.plan.keys[c] for c, role in self.plan.roles.items() if role != "text"]
        value = [] if self.value is None else [self.value]
        return tuple(dict.fromkeys([*fields, self.id, *value, *self.keep]))

    @property
    def texts(self) -> tuple[str, ...]:
        """Those of them that hold few different texts."""
        return tuple(self.plan.keys[c] for c, role in self.plan.roles.items() if role == "category")

    def scored_schema(self, table: ArrowSchema) -> ArrowSchema:
        """Return the schema of the results of a table."""
        kinds = {
            ID: table.field(self.id).type,
            "churn_probability": pa.float64(),
            "prediction": pa.int8(),
            "action": _CODES,
            "expected_profit": pa.float64(),
        }
        for number in range(1, self.reasons + 1):
            kinds[f"reason_{number}"] = _CODES
            kinds[f"reason_{number}_impact"] = pa.float64()
        kinds |= {"model_version": _CODES, "policy_version": _CODES}
        if self.journal:
            kinds |= {name: _field_type(name) for name in FEATURE_NAMES}
        # That the first file has no empty cell says nothing of the others.
        kept = [table.field(name).with_nullable(True) for name in self.keep]
        return pa.schema([*kinds.items(), *kept])

    def rejected_schema(self, table: ArrowSchema) -> ArrowSchema:
        """Return the schema of the refused rows of a table."""
        text = pa.dictionary(pa.int16(), pa.string())
        return pa.schema([(ID, table.field(self.id).type), ("field", text), ("reason", text)])

    def score(self, batch: ArrowBatch) -> Outcome:
        """Score the rows that are customers, and say of the others what is wrong with them.

        Args:
            batch: It has the engine's ``columns``; further ones do not matter.
        """
        fields, unread = read_fields(batch, self.plan)
        refused = list(refused_rows(fields, unread))
        values = None
        if self.value is not None:
            numbers = read_numbers(batch.column(self.value))
            values = numbers.values.astype(np.float64, copy=False)
            refused += _refused_values(values, numbers.bad)
        ids = batch.column(self.id)
        kept = batch.select(list(self.keep)).columns
        rejected, rows = self._rejected(ids, refused)
        if len(rows):
            good = np.ones(batch.num_rows, bool)
            good[rows] = False
            fields = {name: column[good] for name, column in fields.items()}
            values = None if values is None else values[good]
            places = pa.array(np.flatnonzero(good))
            ids, kept = _taken(ids, places), [_taken(column, places) for column in kept]
        columns = [ids, *self._decided(fields, values, ids), *kept]
        schema = self.scored_schema(batch.schema)
        return Outcome(pa.record_batch(columns, schema=schema), rejected, rows)

    def _decided(
        self, fields: FieldArrays, values: FloatArray | None, ids: ArrowArray
    ) -> Iterator[ArrowArray]:
        """Return the columns between the id and those that are kept."""
        X = matrix_of(fields, order="F")
        p = self.scorer.score(X)
        texts = ids.to_pylist() if self.policy.control_share else None
        actions, profits = self.policy.act_many(p, values, texts)
        yield pa.array(p)
        yield pa.array((p >= self.threshold).view(np.int8))
        yield _coded(actions, ACTIONS)
        yield pa.array(profits)
        if self.impacts is not None:
            yield from _reasons(self.impacts(X), self.reasons)
        for version in (self.model_version, self._policy_version):
            yield _coded(np.zeros(len(p), np.int8), (version,))
        if self.journal:
            for name in FEATURE_NAMES:
                yield _field_column(name, fields[name])

    def _rejected(
        self, ids: ArrowArray, refused: Sequence[Refused]
    ) -> tuple[ArrowBatch, NDArray[np.intp]]:
        first = first_reasons(refused, len(ids)) if refused else np.empty(0, np.int16)
        rows = np.flatnonzero(first >= 0)
        places = first[rows]
        columns = [
            _taken(ids, pa.array(rows)),
            _coded(places, [one.field for one in refused]),
            _coded(places, [f"{one.field}: expected {one.expected}" for one in refused]),
        ]
        return pa.record_batch(columns, names=[ID, "field", "reason"]), rows


def value_column(table: ArrowSchema) -> str | None:
    """Return the name of the column of what a customer is worth; None: there is none."""
    return next((name for name in table.names if name.strip().casefold() == VALUE), None)


def make_engine(
    artifact: Artifact, policy: Policy, table: ArrowSchema, wanted: Wanted = Wanted()
) -> Engine:
    """Return what scores a table with a registered model.

    Raises:
        DataError: The table lacks a column, has one twice, or one of another type than expected.
    """
    names = list(table.names)
    plan = plan_for(names, labelled=False)
    id_column = wanted.id or (plan.keys[plan.id] if plan.id else None)
    if id_column is None:
        raise DataError(
            "The table has no column 'customer_id': name the column of the customer's id with --id."
        )
    value = value_column(table)
    for name in (id_column, *wanted.keep):
        if names.count(name) != 1:
            found = "is there more than once" if name in names else "is not there"
            raise DataError(f"Column '{name}' {found}: found {quoted(names)}.")
    require_id_type(table, id_column)
    check_types(table, plan, [value] if value else [])
    engine = Engine(
        scorer=artifact.scorer,
        impacts=artifact.reasons.matrix if wanted.reasons and artifact.reasons else None,
        policy=policy,
        threshold=artifact.threshold,
        model_version=artifact.version,
        plan=plan,
        id=id_column,
        value=value,
        keep=wanted.keep,
        reasons=wanted.reasons if artifact.reasons else 0,
        journal=wanted.journal,
    )
    made = engine.scored_schema(table).names
    twice = sorted({name for name in made if made.count(name) > 1})
    if twice:
        raise DataError(f"Cannot keep {quoted(twice)}: the result has columns of that name.")
    return engine


def _refused_values(values: FloatArray, bad: NDArray[np.bool_] | None) -> Iterator[Refused]:
    """Find the rows whose customer is worth what no customer is; an empty cell is none of them."""
    if bad is not None:
        yield Refused(VALUE, np.flatnonzero(bad), "a number")
    odd = (values <= 0) | (values > MAX_VALUE)
    if odd.any():
        yield Refused(VALUE, np.flatnonzero(odd), f"above 0 and at most {MAX_VALUE:g}")


def _reasons(impacts: FloatArray, limit: int) -> Iterator[ArrowArray]:
    """Return the code and the impact of the strongest reasons, the first one first.

    Of two that are equally strong, the one whose field stands first: as ``Reasons.describe``.
    """
    groups = [impacts[:, list(group)].sum(axis=1) for group in GROUPS]
    left = [np.abs(group) for group in groups]
    for _ in range(limit):
        strongest, place = left[0].copy(), np.zeros(len(impacts), np.int8)
        for number, strength in enumerate(left[1:], start=1):
            stronger = strength > strongest
            np.copyto(strongest, strength, where=stronger)
            place[stronger] = number
        impact = groups[0].copy()
        for number, group in enumerate(groups):
            chosen = place == number
            np.copyto(impact, group, where=chosen)
            np.copyto(left[number], -1, where=chosen)
        yield _coded(place, CODES)
        yield pa.array(impact)


def _taken(column: ArrowArray, places: ArrowArray) -> ArrowArray:
    return without_views(column).take(places).cast(column.type)


def _coded(places: NDArray[Any], words: Sequence[str]) -> ArrowArray:
    return pa.DictionaryArray.from_arrays(pa.array(places), pa.array(words, pa.string()))


def _field_type(name: str) -> Any:  # noqa: ANN401 - Arrow ships no type information
    kinds = {"whole": pa.int16(), "number": pa.float64(), "flag": pa.bool_(), "category": _CODES}
    return kinds[FIELDS[name].kind]


def _field_column(name: str, values: NDArray[Any]) -> ArrowArray:
    if name in CATEGORIES:
        return _coded(values, CATEGORIES[name])
    kind = {"whole": np.int16, "number": np.float64, "flag": np.bool_}[FIELDS[name].kind]
    return pa.array(values.astype(kind, copy=False))
