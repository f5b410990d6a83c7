"""What v0 and v1 answer stays as it is, byte for byte: ``frozen.jsonl`` has it from version 0.1.

The model is so small that any machine computes it alike: no logarithm, and sums without rounding.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from starlette.testclient import TestClient

from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.http.body import BodyReader
from churn_serving.http.edge import Edge
from churn_serving.http.lane import Lane
from churn_serving.inference.batching import InlineRunner
from churn_serving.inference.prediction import Predictor
from churn_serving.model.portable import Linear, Members
from churn_serving.model.scoring import make_scorer
from churn_serving.settings import Settings
from tests.doubles import MODEL, circuit_breaker, service_state

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

FROZEN: Final[list[dict[str, Any]]] = [
    json.loads(line) for line in Path(__file__).with_name("frozen.jsonl").read_text().splitlines()
]
WEIGHTS: Final = {
    "tenure_months": -1 / 128,
    "num_products": 1 / 1024,
    "contract_type=month-to-month": 1 / 4,
    "contract_type=two-year": -1 / 4,
    "payment_method=electronic": 1 / 32,
}
BIAS: Final = 1 / 2
TIME: Final = re.compile(rb'(?<=_time_ms":)[\d.e-]+')


async def never(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("the lane should have answered itself")


@pytest.fixture(scope="module")
def frozen() -> TestClient:
    """A client of the lane with that model."""
    weights = np.array([WEIGHTS.get(name, 0.0) for name in COLUMN_NAMES])
    state = service_state()
    model = Members(members=(Linear(bias=BIAS, link="identity"),))
    scorer = make_scorer(model, {"0/weights": weights}, len(COLUMN_NAMES))
    runner = InlineRunner(scorer, breaker=circuit_breaker(), metrics=state.metrics)
    state.predictor = Predictor(
        runner,
        model=MODEL,
        threshold=0.5,
        policy=state.policy,
        explainer=None,
        observe=lambda _: None,
    )
    lane = Lane(state=state, bodies=BodyReader(max_bytes=2**16))
    return TestClient(Edge(lane, never, state=state, settings=Settings(), keys=None, cors=None))


@pytest.mark.parametrize("kept", FROZEN, ids=lambda kept: str(kept["name"]))
def test_the_answer_is_what_it_was(frozen: TestClient, kept: dict[str, Any]) -> None:
    headers = {"content-type": "application/json"}
    answer = frozen.post(kept["path"], content=kept["body"], headers=headers)
    assert answer.status_code == 200
    assert TIME.sub(b"0", answer.content) == kept["answer"].encode()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-model-version"] == "v1"
