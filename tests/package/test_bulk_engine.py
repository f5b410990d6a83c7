"""The one function of bulk scoring says of every customer what the service would say."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

import churn_serving
from churn_serving.bulk.engine import Wanted, make_engine
from churn_serving.errors import DataError
from churn_serving.features.columns import FEATURE_NAMES
from churn_serving.features.rows import customer_row
from churn_serving.learning.registration import save_artifact
from churn_serving.model.artifact import load_artifact
from churn_serving.model.policy import ACTIONS, Policy
from churn_serving.schema import CustomerV2
from tests.customer_tables import customers

if TYPE_CHECKING:
    from churn_serving.bulk.engine import Engine
    from churn_serving.learning.dataset import Dataset
    from churn_serving.model.artifact import Artifact
    from tests.package.conftest import Fitted

ROWS = 300
POLICY = Policy(control_share=0.3, control_salt="autumn")

ON_AN_EXECUTOR = """
import pickle, sys
for absent in ("bentoml", "pydantic", "pydantic_core", "sklearn", "scipy"):
    sys.modules[absent] = None
import pyarrow as pa
engine, batch = pickle.loads(sys.stdin.buffer.read())
sink = pa.BufferOutputStream()
scored = engine.score(batch).scored
with pa.ipc.new_stream(sink, scored.schema) as stream:
    stream.write_batch(scored)
sys.stdout.buffer.write(sink.getvalue())
"""


def _registered(fitted: Fitted, name: str) -> Artifact:
    tag = save_artifact(
        estimator=fitted.pipeline,
        scaler=fitted.scaler,
        threshold=0.3,
        measured={},
        name=name,
        background=fitted.X[:200],
    )
    return load_artifact(tag)


@pytest.fixture(scope="session")
def linear(logistic: Fitted) -> Artifact:
    return _registered(logistic, "bulk-linear")


@pytest.fixture(scope="session")
def trees(boosting: Fitted) -> Artifact:
    return _registered(boosting, "bulk-trees")


@pytest.fixture(scope="session")
def table(telco: Dataset) -> Any:
    return customers(telco, ROWS)


def _engine(artifact: Artifact, table: Any, policy: Policy | None = None, **wanted: Any) -> Engine:
    return make_engine(artifact, policy or Policy(), table.schema, Wanted(**wanted))


def _batch(table: Any) -> Any:
    (batch,) = table.combine_chunks().to_batches()
    return batch


@pytest.mark.parametrize("kind", ["linear", "trees"])
def test_a_row_gets_the_estimate_the_decision_and_the_reasons_of_a_request(
    kind: str, table: Any, request: pytest.FixtureRequest
) -> None:
    artifact: Artifact = request.getfixturevalue(kind)
    values = np.where(np.arange(ROWS) % 3, np.arange(ROWS) + 20.0, np.nan)
    table = table.append_column("customer_value", pa.array(values, from_pandas=True))
    scored = _engine(artifact, table, POLICY, reasons=7).score(_batch(table)).scored.to_pylist()
    assert artifact.reasons is not None
    actions = set()
    for row, told in zip(table.to_pylist(), scored, strict=True):
        customer = CustomerV2.model_validate({name: row[name] for name in FEATURE_NAMES})
        features = customer_row(customer)
        p = artifact.scorer.score_row(features)
        p_told = told["churn_probability"]
        decision = POLICY.decide(p_told, row["customer_value"], row["customer_id"])
        assert told["customer_id"] == row["customer_id"]
        assert p_told == pytest.approx(p, abs=1e-12)
        assert told["prediction"] == (p >= artifact.threshold)
        assert told["action"] == decision.action
        assert told["expected_profit"] == pytest.approx(decision.expected_profit, abs=1e-9)
        impacts = artifact.reasons.row(features)
        reasons = artifact.reasons.describe(dict(customer), impacts, 7)
        for number, reason in enumerate(reasons, start=1):
            assert told[f"reason_{number}_impact"] == pytest.approx(reason["impact"], abs=1e-9)
            if abs(reason["impact"]) > 1e-9:  # equal ones stand in the order of rounding
                assert told[f"reason_{number}"] == reason["code"]
        actions.add(told["action"])
    assert actions == set(ACTIONS)
    versions = {(told["model_version"], told["policy_version"]) for told in scored}
    assert versions == {(artifact.version, POLICY.version)}


def test_a_model_without_reasons_gives_none(saved: str, table: Any) -> None:
    scored = _engine(load_artifact(saved), table, reasons=3).score(_batch(table)).scored
    assert not [name for name in scored.schema.names if name.startswith("reason")]


def test_an_executor_needs_numpy_and_pyarrow_and_gets_the_same(trees: Artifact, table: Any) -> None:
    engine, batch = _engine(trees, table, POLICY, reasons=2), _batch(table)
    done = subprocess.run(
        [sys.executable, "-c", ON_AN_EXECUTOR],
        input=pickle.dumps((engine, batch)),
        env={"PYTHONPATH": str(Path(churn_serving.__file__).parents[1])},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    there = pa.ipc.open_stream(done.stdout).read_all()
    assert there.equals(pa.Table.from_batches([engine.score(batch).scored]))


def test_a_refused_row_harms_none_of_its_neighbours(linear: Artifact, table: Any) -> None:
    rows = table.to_pylist()
    rows[1]["tenure_months"] = None
    rows[3]["contract_type"] = "for ever"
    rows[5].update(tenure_months=0, total_charges=None)
    rows[7].update(tenure_months=9, total_charges=None)
    spoiled = pa.Table.from_pylist(rows, schema=table.schema)
    engine = _engine(linear, spoiled)
    scored, rejected, places = engine.score(_batch(spoiled))
    assert places.tolist() == [1, 3, 7]
    assert rejected.to_pydict() == {
        "customer_id": [rows[place]["customer_id"] for place in (1, 3, 7)],
        "field": ["tenure_months", "contract_type", "total_charges"],
        "reason": [
            "tenure_months: expected a value",
            "contract_type: expected one of 'month-to-month', 'one-year', 'two-year'",
            "total_charges: expected a value",
        ],
    }
    alone = {row["customer_id"]: row for row in engine.score(_batch(table)).scored.to_pylist()}
    told = {row["customer_id"]: row for row in scored.to_pylist()}
    assert len(told) == ROWS - 3
    first_month = rows[5]["customer_id"]
    assert [name for name, row in told.items() if row != alone[name]] == [first_month]


def test_what_a_customer_is_worth_is_judged_too(linear: Artifact, table: Any) -> None:
    values = ["250", "", None, "0", "-1", "a lot", "2e9", " 12.5 "]
    table = table.slice(0, len(values)).append_column("Customer_Value", pa.array(values))
    _, rejected, places = _engine(linear, table).score(_batch(table))
    assert places.tolist() == [3, 4, 5, 6]
    assert rejected.column("reason").to_pylist() == [
        "customer_value: expected above 0 and at most 1e+09",
        "customer_value: expected above 0 and at most 1e+09",
        "customer_value: expected a number",
        "customer_value: expected above 0 and at most 1e+09",
    ]


def test_a_batch_may_be_empty_or_all_bad(linear: Artifact, table: Any) -> None:
    engine = _engine(linear, table, reasons=3, journal=True)
    empty = engine.score(_batch(table).slice(0, 0))
    assert (empty.scored.num_rows, empty.rejected.num_rows) == (0, 0)
    bad = table.set_column(1, "tenure_months", pa.array([-1] * ROWS))
    outcome = engine.score(_batch(bad))
    assert (outcome.scored.num_rows, outcome.rejected.num_rows) == (0, ROWS)
    assert outcome.scored.schema == engine.scored_schema(table.schema)


def test_the_id_and_what_is_kept_come_back_in_their_types(linear: Artifact, table: Any) -> None:
    table = table.append_column("account", pa.array(range(ROWS), pa.uint32()))
    table = table.append_column("since", pa.array(range(ROWS), pa.timestamp("s")))
    engine = _engine(linear, table, id="account", keep=("since",), journal=True)
    scored = engine.score(_batch(table)).scored
    assert scored.column("customer_id").equals(_batch(table).column("account"))
    assert scored.column("since").equals(_batch(table).column("since"))
    for name in FEATURE_NAMES:
        assert scored.column(name).to_pylist() == table.column(name).to_pylist(), name
    assert engine.columns == (*FEATURE_NAMES, "account", "since")


@pytest.mark.parametrize(
    ("change", "wanted", "sentence"),
    [
        (lambda t: t.drop_columns(["tenure_months"]), {}, "Missing column 'tenure_months'"),
        (lambda t: t.drop_columns(["customer_id"]), {}, "name the column of the customer's id"),
        (lambda t: t, {"id": "account"}, "Column 'account' is not there"),
        (lambda t: t, {"keep": ("region",)}, "Column 'region' is not there"),
        (lambda t: t, {"keep": ("customer_id",)}, "Cannot keep 'customer_id'"),
        (
            lambda t: t.set_column(1, "tenure_months", pa.array([0] * ROWS, pa.timestamp("s"))),
            {},
            r"Column 'tenure_months': expected numbers, found the type timestamp\[s\]",
        ),
        (
            lambda t: t.set_column(7, "contract_type", pa.array([["a"]] * ROWS)),
            {},
            "Column 'contract_type': expected texts or numbers, found the type list",
        ),
    ],
)
def test_a_table_that_cannot_be_scored_is_refused_in_a_sentence(
    change: Any, wanted: dict[str, Any], sentence: str, linear: Artifact, table: Any
) -> None:
    with pytest.raises(DataError, match=sentence):
        _engine(linear, change(table), **wanted)


def test_no_label_is_asked_for_and_one_that_is_there_is_not_read(
    linear: Artifact, table: Any
) -> None:
    labelled = table.append_column("churn", pa.array(["maybe"] * ROWS))
    engine = _engine(linear, labelled)
    assert "churn" not in engine.columns
    assert engine.score(_batch(labelled)).scored.num_rows == ROWS
