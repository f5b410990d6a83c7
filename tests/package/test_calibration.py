from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from churn_serving.learning.measuring.calibration import (
    Calibration,
    calibration,
    complaints,
    wilson,
)

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Labels


def _customers(rows: int, seed: int = 0) -> tuple[Labels, FloatArray]:
    """Return labels, and the probabilities that they were drawn from."""
    random = np.random.default_rng(seed)
    probabilities = random.beta(1, 2, rows)
    return (random.random(rows) < probabilities).astype(np.int64), probabilities


def _measured(y: Labels, p: FloatArray, samples: int = 200) -> Calibration:
    return calibration(y, p, np.arange(len(y)), samples=samples, seed=0)


def test_probabilities_that_mean_what_they_say_pass() -> None:
    for seed in range(5):
        measured = _measured(*_customers(2000, seed))
        assert measured.slope
        assert measured.slope.value == pytest.approx(1, abs=0.15)
        assert measured.shift.value == pytest.approx(0, abs=0.02)
        assert measured.error < measured.chance.high
        assert complaints(measured) == []


def test_a_model_that_exaggerates_has_a_slope_below_1_and_is_told_so() -> None:
    y, p = _customers(2000)
    measured = _measured(y, expit(2 * logit(p)))
    assert measured.slope
    assert measured.slope.value == pytest.approx(0.5, abs=0.05)
    assert measured.slope.high < 1
    sentence = f"The calibration slope is {measured.slope.value:.2f}: the model exaggerates."
    assert sentence in complaints(measured)


def test_a_model_that_is_too_cautious_has_a_slope_above_1() -> None:
    y, p = _customers(2000)
    measured = _measured(y, expit(logit(p) / 2))
    assert measured.slope
    assert measured.slope.value == pytest.approx(2, abs=0.2)
    assert any("too cautious" in sentence for sentence in complaints(measured))


def test_a_model_that_says_too_much_has_a_negative_intercept() -> None:
    y, p = _customers(2000)
    measured = _measured(y, expit(logit(p) + 0.7))
    assert measured.intercept
    assert measured.intercept.value == pytest.approx(-0.7, abs=0.1)
    assert measured.intercept.low < measured.intercept.value < measured.intercept.high < 0
    assert any("too high" in sentence for sentence in complaints(measured))


def test_a_bend_that_no_line_shows_is_seen_by_the_bins() -> None:
    y, p = _customers(5000)
    bent = np.clip(p + 0.12 * np.sin(6 * np.pi * p), 0.001, 0.999)
    assert any("expected calibration error" in each for each in complaints(_measured(y, bent)))


def test_a_small_fault_of_a_large_table_is_no_complaint() -> None:
    y, p = _customers(100_000)
    measured = _measured(y, expit(1.03 * logit(p)), samples=50)
    assert measured.slope
    assert measured.slope.high < 1  # it is certain
    assert complaints(measured) == []


def test_slope_and_intercept_are_those_of_a_logistic_regression() -> None:
    y, p = _customers(500)
    measured = _measured(y, p)
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(p)[:, None], y)
    assert measured.slope
    assert measured.slope.value == pytest.approx(float(fitted.coef_[0, 0]), abs=1e-5)
    assert measured.intercept
    # The slope held at 1: the mean is right once it is added.
    assert expit(logit(p) + measured.intercept.value).mean() == pytest.approx(y.mean(), abs=1e-9)


def test_the_interval_of_the_slope_is_that_of_whole_fits() -> None:
    y, p = _customers(300)
    random = np.random.default_rng(1)
    slopes = []
    for _ in range(200):
        rows = random.integers(300, size=300)
        fitted = LogisticRegression(C=np.inf).fit(logit(p[rows])[:, None], y[rows])
        slopes.append(float(fitted.coef_[0, 0]))
    low, high = np.percentile(slopes, [2.5, 97.5])
    measured = _measured(y, p, samples=1000)
    assert measured.slope
    assert measured.slope.low == pytest.approx(low, abs=0.25 * (high - low))
    assert measured.slope.high == pytest.approx(high, abs=0.25 * (high - low))


def test_the_bins_hold_all_customers_and_as_many_each() -> None:
    y, p = _customers(1000)
    measured = _measured(y, p)
    assert [each.rows for each in measured.bins] == [100] * 10
    for each in measured.bins:
        assert each.observed.low < each.observed.value < each.observed.high
    gaps = [abs(each.predicted - each.observed.value) for each in measured.bins]
    assert measured.error == pytest.approx(np.mean(gaps))
    assert sum(each.observed.value * 100 for each in measured.bins) == pytest.approx(y.sum())


def test_equal_probabilities_are_in_one_bin() -> None:
    y, p = _customers(1000)
    measured = _measured(y, p.round(1))
    assert len({each.predicted for each in measured.bins}) == len(measured.bins) < 11
    assert sum(each.rows for each in measured.bins) == 1000


def test_the_error_that_chance_gives_shrinks_with_the_table() -> None:
    few, many = (_measured(*_customers(rows)).chance for rows in (500, 8000))
    assert many.mean == pytest.approx(few.mean / 4, rel=0.15)
    assert few.mean < few.high


def test_customers_who_come_ten_times_are_no_better_evidence() -> None:
    y, p = _customers(200)
    of_row = np.tile(np.arange(200), 10)
    once = _measured(y, p)
    ten_times = calibration(y[of_row], p[of_row], of_row, samples=200, seed=0)
    assert once.slope
    assert ten_times.slope
    assert ten_times.slope.low == pytest.approx(once.slope.low, abs=1e-6)
    assert ten_times.slope.high == pytest.approx(once.slope.high, abs=1e-6)
    assert ten_times.chance.mean == pytest.approx(once.chance.mean, rel=0.01)


def test_the_parts_of_the_brier_score_add_up() -> None:
    y, p = _customers(700)
    parts = _measured(y, p).brier
    assert parts["score"] == pytest.approx(np.mean((y - p) ** 2))
    assert parts["uncertainty"] == pytest.approx(y.mean() * (1 - y.mean()))
    assert parts["miscalibration"] - parts["discrimination"] + parts["uncertainty"] == (
        pytest.approx(parts["score"])
    )
    assert min(parts.values()) > 0


@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]),  # separated: the slope is endless
        ([0, 1, 0, 1, 0, 1], [0.5] * 6),  # said of everybody: there is no slope
        ([0, 1, 0, 0, 1, 1], [0.0, 1.0, 0.0, 1.0, 1.0, 1.0]),  # a forest is sure
    ],
)
def test_a_slope_that_does_not_exist_is_left_out(y: list[int], p: list[float]) -> None:
    kept = _measured(np.array(y), np.array(p)).as_json()
    text = json.dumps(kept, allow_nan=False)
    assert "null" not in text
    assert {"bins", "shift", "error", "chance", "brier"} <= kept.keys()


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for found, rows, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        share = wilson(found / rows, rows)
        assert (round(share.low, 4), round(share.high, 4)) == (low, high)
    assert wilson(1.0, 3).high == 1
