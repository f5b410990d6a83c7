from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.learning.candidates import KINDS, churn_probabilities, fit
from churn_serving.learning.measuring import gates

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Dataset, Labels
    from churn_serving.learning.measuring.gates import Verdict

MONTHLY = COLUMN_NAMES.index("contract_type=month-to-month")


def _labels(left: int, stayed: int) -> Labels:
    return np.repeat(np.array([1, 0]), [left, stayed])


def _skill(dataset: Dataset, y: Labels, rows: int = 5600) -> Verdict:
    """Fit on the first rows, and ask the gate about the others."""
    model = fit(KINDS[0], dataset.X[:rows], y[:rows], 0)
    test = slice(rows, None)
    return gates.skill(
        y[test],
        churn_probabilities(model, dataset.X[test]),
        float(y[:rows].mean()),
        np.arange(len(y[test])),
        samples=300,
        seed=0,
    )


@pytest.mark.parametrize(("left", "stayed"), [(49, 500), (500, 49), (0, 100)])
def test_fewer_than_fifty_held_out_customers_of_a_label_stop_a_model(
    left: int, stayed: int
) -> None:
    verdict = gates.enough(_labels(left, stayed), np.arange(left + stayed))
    assert verdict.outcome == "stopped"
    assert verdict.sentence == (
        f"{left} held-out customers left and {stayed} stayed: fewer than 50 of a kind measure "
        "nothing."
    )


def test_fifty_of_either_label_are_enough() -> None:
    assert gates.enough(_labels(50, 50), np.arange(100)).outcome == "passed"


def test_a_customer_who_comes_ten_times_counts_once() -> None:
    y, of_row = np.repeat(_labels(20, 60), 10), np.repeat(np.arange(80), 10)
    assert gates.enough(y, of_row).outcome == "stopped"


def test_a_model_of_the_public_data_has_skill(telco: Dataset) -> None:
    verdict = _skill(telco, telco.y)
    assert verdict.outcome == "passed"
    assert verdict.difference
    assert verdict.difference.high < -0.1


@pytest.mark.parametrize("seed", range(20))
def test_a_model_of_labels_of_which_45_percent_are_flipped_is_stopped(
    seed: int, telco: Dataset
) -> None:
    flipped = np.random.default_rng(seed).random(telco.rows) < 0.45
    verdict = _skill(telco, np.where(flipped, 1 - telco.y, telco.y))
    assert verdict.outcome == "stopped"
    assert re.match("The model is (not|hardly) better than saying ", verdict.sentence)


def test_a_trace_of_skill_that_is_no_chance_is_of_no_use() -> None:
    random = np.random.default_rng(0)
    said = 0.5 + 0.04 * random.choice([-1, 1], 50_000)
    y = (random.random(50_000) < said).astype(np.int64)
    verdict = gates.skill(y, said, 0.5, np.arange(50_000), samples=200, seed=0)
    assert verdict.outcome == "stopped"
    assert verdict.difference
    assert verdict.difference.high < 0
    assert "its log-loss is 0.5% lower" in verdict.sentence


def test_a_model_that_is_surely_wrong_is_stopped(telco: Dataset) -> None:
    y = telco.y.copy()
    y[5600:] = 1 - y[5600:]
    assert _skill(telco, y).outcome == "stopped"


def _leak(X: FloatArray, y: Labels) -> Verdict:
    return gates.leak(X[:1500], y[:1500], X[1500:2500], y[1500:2500], seed=0)


def test_no_field_of_the_public_data_gives_the_label_away(telco: Dataset) -> None:
    assert _leak(telco.X, telco.y).outcome == "passed"


def test_labels_that_a_category_decides_are_stopped_and_the_field_is_named(telco: Dataset) -> None:
    verdict = _leak(telco.X, telco.X[:, MONTHLY].astype(np.int64))
    assert verdict.outcome == "stopped"
    assert verdict.sentence.startswith(
        "The field 'contract_type' alone tells of 100.0% of the held-out customers whether they"
    )


@pytest.mark.parametrize("field", ["tenure_months", "total_charges"])
def test_labels_that_a_range_of_a_number_decides_are_stopped(field: str, telco: Dataset) -> None:
    values = telco.X[:, COLUMN_NAMES.index(field)]
    low, high = np.quantile(values, [0.3, 0.6])
    verdict = _leak(telco.X, ((low < values) & (values < high)).astype(np.int64))
    assert verdict.outcome == "stopped"
    assert f"'{field}'" in verdict.sentence


def test_a_field_that_gives_nearly_all_labels_away_is_stopped(telco: Dataset) -> None:
    y = telco.X[:, MONTHLY].astype(np.int64)
    y[::250] = 1 - y[::250]
    assert _leak(telco.X, y).outcome == "stopped"
    y[::20] = 1 - y[::20]
    assert _leak(telco.X, y).outcome == "passed"


def _compared(
    p: FloatArray, champions: FloatArray, y: Labels, unseen: slice | None = None
) -> Verdict:
    flags = np.zeros(len(y), bool)
    flags[unseen or slice(None)] = True
    return gates.champion(y, p, champions, np.arange(len(y)), flags, samples=300, seed=0)


@pytest.fixture
def customers() -> tuple[Labels, FloatArray]:
    random = np.random.default_rng(0)
    probabilities = random.beta(1, 2, 1000)
    return (random.random(1000) < probabilities).astype(np.int64), probabilities


def test_a_model_that_is_worse_than_the_champion_is_stopped(
    customers: tuple[Labels, FloatArray],
) -> None:
    y, p = customers
    verdict = _compared(np.full(1000, y.mean()), p, y)
    assert verdict.outcome == "stopped"
    assert verdict.sentence.startswith(
        "Worse than the champion: on 1,000 customers whom neither has trained on, the log-loss"
    )


def test_a_model_that_is_as_good_or_better_passes(customers: tuple[Labels, FloatArray]) -> None:
    y, p = customers
    better = _compared(p, np.full(1000, y.mean()), y)
    assert (better.outcome, better.sentence[:6]) == ("passed", "Better")
    noise = np.random.default_rng(1).normal(0, 0.001, 1000)
    same = _compared(np.clip(p + noise, 0.001, 0.999), np.clip(p, 0.001, 0.999), y)
    assert (same.outcome, same.sentence[:8]) == ("passed", "No worse")
    assert same.difference
    assert same.as_json()["difference"]["low"] == same.difference.low


def test_only_customers_whom_the_champion_has_not_seen_count(
    customers: tuple[Labels, FloatArray],
) -> None:
    y, p = customers
    champions = p.copy()
    # It knows by heart those whom it was trained on.
    champions[500:] = np.where(y[500:] == 1, 0.999, 0.001)
    assert _compared(p, champions, y).outcome == "stopped"
    assert _compared(p, champions, y, slice(500)).outcome == "passed"


def test_too_few_customers_whom_neither_knows_are_no_comparison_and_it_is_said(
    customers: tuple[Labels, FloatArray],
) -> None:
    y, p = customers
    verdict = _compared(p, 1 - p, y, slice(100))
    assert verdict.outcome == "skipped"
    left = int(y[:100].sum())
    assert f"{left} left and {100 - left} stayed, and 50 of a kind are needed." in verdict.sentence
