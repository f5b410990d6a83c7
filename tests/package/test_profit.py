"""The profit of contacts on known customers: literally counted, and with an honest interval."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from empulse.metrics import mpc_score
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_serving.learning.measuring.profit import profit_curve
from churn_serving.model.policy import Policy

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Labels
    from churn_serving.learning.splits import Indices
    from tests.package.conftest import TrainingRun


def drawn(n: int, seed: int) -> tuple[Labels, FloatArray]:
    """Draw customers who leave as probably as is said of them."""
    random = np.random.default_rng(seed)
    p = random.beta(0.8, 2.0, n)
    return (random.random(n) < p).astype(np.int64), p


def measured(
    y: Labels,
    p: FloatArray,
    policy: Policy | None = None,
    *,
    customers: Indices | None = None,
    samples: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    customers = np.arange(len(y)) if customers is None else customers
    return profit_curve(y, p, customers, policy or Policy(), samples=samples, seed=seed)


def literally(y: Labels, p: FloatArray, policy: Policy, threshold: float) -> float:
    profit = 0.0
    for left, probability in zip(y.tolist(), p.tolist(), strict=True):
        if probability > threshold or threshold == 0:
            if left:
                kept = policy.customer_value - policy.offer_cost
                profit += policy.acceptance * kept - policy.contact_cost
            else:
                profit -= policy.offer_cost + policy.contact_cost
    return profit / len(y)


some = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.floats(0, 1) | st.integers(0, 100).map(lambda n: n / 100) | st.just(11 / 67),
    ),
    min_size=1,
    max_size=30,
)
policies = st.builds(
    Policy,
    customer_value=st.floats(1, 1000),
    offer_cost=st.floats(0, 500),
    contact_cost=st.floats(0, 50),
    acceptance=st.floats(0, 1),
)


@given(some, policies)
@settings(max_examples=100, deadline=None)
def test_each_point_of_the_curve_is_counted_literally(
    customers: list[tuple[int, float]], policy: Policy
) -> None:
    y, p = np.array([each[0] for each in customers]), np.array([each[1] for each in customers])
    found = measured(y, p, policy, samples=2)
    curve = found["curve"]
    assert len(curve["threshold"]) in {101, 102}
    for cut, profit in zip(curve["threshold"], curve["profit"], strict=True):
        assert profit == pytest.approx(literally(y, p, policy, cut), abs=1e-9)
    assert found.get("threshold") == policy.threshold
    at = min(found.get("threshold", 1.0), 1.0)
    assert found["per_customer"]["value"] == pytest.approx(literally(y, p, policy, at), abs=1e-9)
    assert max(curve["profit"]) == curve["profit"][curve["threshold"].index(found["best"]["value"])]


def test_whom_the_policy_contacts_is_who_is_counted() -> None:
    y, p = drawn(500, seed=1)
    contacted = Policy().decide_many(p).actions == 0
    gains = np.where(y == 1, 0.3 * 190 - 1, -11.0)
    profit = measured(y, p)["per_customer"]["value"]
    assert profit == pytest.approx((gains * contacted).sum() / len(y))


def test_the_bins_hold_every_customer_once() -> None:
    y, p = np.array([1, 0, 1, 0, 1]), np.array([0.0, 0.01, 0.010001, 1.0, 0.16])
    found = measured(y, p)
    assert found["edges"] == [round(0.01 * edge, 2) for edge in range(101)]
    left = {place: count for place, count in enumerate(found["left"]) if count}
    stayed = {place: count for place, count in enumerate(found["stayed"]) if count}
    # A bin reaches from above its edge up to the next; 0 is in the first.
    assert (left, stayed) == ({0: 1, 1: 1, 15: 1}, {0: 1, 99: 1})


def test_the_curve_of_another_policy_can_be_made_of_the_bins() -> None:
    y, p = drawn(800, seed=2)
    other = Policy(customer_value=90, offer_cost=20, contact_cost=0.5, acceptance=0.6)
    kept, wanted = measured(y, p), measured(y, p, other)["curve"]
    left = np.cumsum([*kept["left"], 0][::-1])[::-1]
    stayed = np.cumsum([*kept["stayed"], 0][::-1])[::-1]
    made = ((0.6 * 70 - 0.5) * left - 20.5 * stayed) / (left + stayed)[0]
    known = dict(zip(wanted["threshold"], wanted["profit"], strict=True))
    assert made == pytest.approx([known[edge] for edge in kept["edges"]])


def test_the_highest_point_is_empulses_maximum_profit() -> None:
    y, p = drawn(600, seed=3)
    p = np.ceil(p * 100) / 100  # then no two customers are in one bin whom a threshold could part
    for policy in (Policy(), Policy(acceptance=0.1), Policy(contact_cost=6.0, customer_value=80)):
        best = mpc_score(
            y,
            p,
            accept_rate=policy.acceptance,
            clv=policy.customer_value,
            incentive_cost=policy.offer_cost,
            contact_cost=policy.contact_cost,
        )
        assert max(measured(y, p, policy)["curve"]["profit"]) == pytest.approx(best)


def test_a_policy_that_never_pays_contacts_nobody() -> None:
    y, p = drawn(100, seed=4)
    for policy in (
        Policy(acceptance=0),
        Policy(acceptance=0, offer_cost=0),
        Policy(offer_cost=300),
    ):
        assert measured(y, p, policy)["per_customer"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_the_interval_covers_the_true_profit_about_19_times_in_20() -> None:
    # What each customer brings on average, were the whole population known.
    y, p = drawn(400_000, seed=5)
    truth = measured(y, p, samples=1)["per_customer"]["value"]
    trials, covered = 200, 0
    for seed in range(trials):
        y, p = drawn(400, seed=100 + seed)
        found = measured(y, p, samples=200, seed=seed)["per_customer"]
        covered += found["low"] <= truth <= found["high"]
    # Four standard errors of a share of 0.95 in 200 trials, and the bootstrap's own small bias.
    assert covered / trials > 0.95 - 4 * 0.0154


def test_the_interval_is_that_of_counts_drawn_from_a_multinomial_distribution() -> None:
    y, p = drawn(1000, seed=6)
    found = measured(y, p, samples=4000)["per_customer"]
    contacted = Policy().decide_many(p).actions == 0
    shares = [np.mean(contacted & (y == 1)), np.mean(contacted & (y == 0)), np.mean(~contacted)]
    counts = np.random.default_rng(0).multinomial(1000, shares, size=4000)
    profits = (56 * counts[:, 0] - 11 * counts[:, 1]) / 1000
    width = found["high"] - found["low"]
    low, high = np.percentile(profits, [2.5, 97.5])
    assert found["low"] == pytest.approx(low, abs=0.05 * width)
    assert found["high"] == pytest.approx(high, abs=0.05 * width)


def test_ten_rows_of_a_customer_tell_no_more_than_one() -> None:
    y, p = drawn(300, seed=7)
    once = measured(y, p, samples=200)
    ten = measured(
        np.repeat(y, 10), np.repeat(p, 10), customers=np.repeat(np.arange(300), 10), samples=200
    )
    assert ten["per_customer"] == pytest.approx(once["per_customer"])


def test_the_same_seed_gives_the_same_figures() -> None:
    y, p = drawn(200, seed=8)
    assert measured(y, p, seed=3) == measured(y, p, seed=3)
    assert measured(y, p, seed=3) != measured(y, p, seed=4)


def test_training_measures_the_profit_of_the_held_out_customers(training_run: TrainingRun) -> None:
    found = training_run.result.measured["profit"]
    json.dumps(found, allow_nan=False)
    assert (sum(found["left"]), sum(found["stayed"])) == (374, 1035)
    assert found["threshold"] == 11 / 67
    assert found["policy_version"] == Policy().version
    assert found["policy"] == Policy().figures
    figure = found["per_customer"]
    assert figure["low"] < figure["value"] < figure["high"]
    assert figure["low"] > max(found["curve"]["profit"][0], 0)  # better than all, and than nobody
    assert max(found["curve"]["profit"]) >= figure["value"]
