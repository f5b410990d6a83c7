from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from churn_serving.learning.measuring.evaluation import (
    METRICS,
    best_threshold,
    curves,
    evaluate,
    measure,
    no_skill,
)
from churn_serving.learning.measuring.resampling import cells_of, means, resamples

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Labels


def _scored(rows: int, seed: int = 0, digits: int = 9) -> tuple[Labels, FloatArray]:
    """Return labels and probabilities that mean what they say; few digits: many ties."""
    random = np.random.default_rng(seed)
    probabilities = random.beta(1, 3, rows).round(digits)
    return (random.random(rows) < probabilities).astype(np.int64), probabilities


def _theirs(y: Labels, p: FloatArray, threshold: float) -> dict[str, float]:
    return {
        "auc": roc_auc_score(y, p),
        "pr_auc": average_precision_score(y, p),
        "log_loss": log_loss(y, p),
        "brier": brier_score_loss(y, p),
        "f1": f1_score(y, p >= threshold),
        "precision": precision_score(y, p >= threshold),
        "recall": recall_score(y, p >= threshold),
    }


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_each_figure_is_scikit_learns(digits: int) -> None:
    y, p = _scored(300, digits=digits)
    figures = evaluate(y, p, 0.3, np.arange(300), samples=10, seed=0)
    for name, value in _theirs(y, p, 0.3).items():
        assert figures[name].value == pytest.approx(value, abs=1e-12), name
    assert {name: measure(y, p)[name] for name in METRICS} == pytest.approx(
        {name: figures[name].value for name in METRICS}, abs=1e-12
    )


def test_the_intervals_are_those_of_a_plain_bootstrap() -> None:
    y, p = _scored(300, digits=2)
    random = np.random.default_rng(1)
    drawn = [random.integers(300, size=300) for _ in range(150)]
    samples = [_theirs(y[rows], p[rows], 0.3) for rows in drawn]
    figures = evaluate(y, p, 0.3, np.arange(300), samples=1000, seed=0)
    for name in samples[0]:
        low, high = np.percentile([sample[name] for sample in samples], [2.5, 97.5])
        # Both are random: they agree to a fraction of their width.
        allowed = 0.3 * (high - low)
        assert figures[name].low == pytest.approx(low, abs=allowed), name
        assert figures[name].high == pytest.approx(high, abs=allowed), name


def test_how_many_leave_varies_with_the_sample() -> None:
    y, p = _scored(500)
    (batch,) = [b for (b,) in resamples([cells_of(y, p)], np.arange(500), samples=200, seed=0)]
    left, rows = batch.left.sum(1), (batch.left + batch.stayed).sum(1)
    assert set(rows) == {500}
    assert left.std() == pytest.approx(np.sqrt(500 * y.mean() * (1 - y.mean())), rel=0.2)
    assert left.mean() == pytest.approx(y.sum(), rel=0.05)


def test_customers_who_come_ten_times_make_no_interval_narrower() -> None:
    y, p = _scored(200)
    once = evaluate(y, p, 0.3, np.arange(200), samples=200, seed=0)
    of_row = np.tile(np.arange(200), 10)
    ten_times = evaluate(y[of_row], p[of_row], 0.3, of_row, samples=200, seed=0)
    for name, figure in once.items():
        for part in ("value", "low", "high"):
            assert getattr(ten_times[name], part) == pytest.approx(getattr(figure, part)), name


def test_more_scores_than_cells_change_no_figure_that_is_shown() -> None:
    y, p = _scored(30_000)
    exact = measure(y, p)
    coarse = cells_of(y, p, 1000)
    assert len(coarse.scores) == 1000
    figures = evaluate(y, p, 0.3, np.arange(30_000), samples=30, seed=0)
    for name in METRICS:
        assert figures[name].value == pytest.approx(exact[name], abs=1e-12)
        assert figures[name].low < exact[name] < figures[name].high
    counts = coarse.counts
    assert counts.left.sum() == y.sum()
    assert (np.diff(coarse.scores) < 0).all()
    # Each cell's score is its lowest: from it on, all of the cell is predicted.
    first = coarse.scores[99]
    assert (p >= first).sum() == (counts.left + counts.stayed)[0, :100].sum()


def test_two_models_are_resampled_with_the_same_customers() -> None:
    y, p = _scored(100)
    tables = [cells_of(y, p), cells_of(y, 1 - p)]
    for one, other in resamples(tables, np.arange(100), samples=20, seed=0):
        assert (one.left == other.left[:, ::-1]).all()


def test_a_paired_difference_is_averaged_over_the_rows_of_the_drawn_customers() -> None:
    values, customers = np.array([1.0, 3.0, 10.0]), np.array([0, 0, 1])
    drawn = means(values, customers, samples=500, seed=0)
    # Two customers, drawn twice: (0, 0), (0, 1) or (1, 1).
    assert set(drawn.round(9)) == {2.0, round(14 / 3, 9), 10.0}


def test_a_resample_without_a_class_is_left_out_of_the_interval() -> None:
    y, p = np.array([1, 0, 0, 0]), np.array([0.9, 0.2, 0.3, 0.1])
    figures = evaluate(y, p, 0.5, np.arange(4), samples=200, seed=0)
    assert figures["auc"].low == figures["auc"].high == 1
    assert all(np.isfinite([e.value, e.low, e.high]).all() for e in figures.values())


def test_lift_is_by_how_much_those_most_at_risk_leave_more_often() -> None:
    # 100 customers, 20 left: 4 of the first 5, 7 of the first 10, 12 of the first 20.
    y = np.zeros(100, np.int64)
    y[[0, 1, 2, 3, 5, 6, 7, 10, 11, 12, 13, 14, *range(40, 48)]] = 1
    figures = evaluate(y, np.linspace(1, 0, 100), 0.5, np.arange(100), samples=5, seed=0)
    assert figures["lift_5"].value == pytest.approx((4 / 5) / 0.2)
    assert figures["lift_10"].value == pytest.approx((7 / 10) / 0.2)
    assert figures["lift_20"].value == pytest.approx((12 / 20) / 0.2)


def test_equal_scores_share_their_lift() -> None:
    y = np.r_[np.ones(20, np.int64), np.zeros(80, np.int64)]
    figures = evaluate(y, np.full(100, 0.2), 0.5, np.arange(100), samples=5, seed=0)
    assert {figures[name].value for name in ("lift_5", "lift_10", "lift_20")} == {1.0}


def test_no_skill_is_what_the_same_probability_for_everybody_scores() -> None:
    y, _ = _scored(200)
    figures = no_skill(y, 0.25)
    constant = np.full(200, 0.25)
    assert figures["auc"] == 0.5
    assert figures["pr_auc"] == pytest.approx(y.mean())
    assert figures["log_loss"] == pytest.approx(log_loss(y, constant))
    assert figures["brier"] == pytest.approx(brier_score_loss(y, constant))
    assert figures["f1"] == pytest.approx(f1_score(y, constant >= 0))
    assert figures["lift_10"] == 1


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_has_a_better_f1_than_the_one_that_is_kept(seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.uniform(size=60).round(1 + seed % 3)  # with ties
    y = (random.uniform(size=60) < probabilities).astype(np.int64)
    kept = best_threshold(y, probabilities, np.arange(60), samples=20, seed=0)
    brute_force = max(f1_score(y, probabilities >= candidate) for candidate in set(probabilities))
    assert f1_score(y, probabilities >= kept.value) == pytest.approx(brute_force, abs=1e-12)
    assert kept.value in probabilities


def test_the_threshold_has_an_interval_that_narrows_with_the_table() -> None:
    few, many = (
        best_threshold(*_scored(rows), np.arange(rows), samples=200, seed=0)
        for rows in (200, 20_000)
    )
    for each in (few, many):
        assert 0 < each.low <= each.value <= each.high < 1
    assert many.high - many.low < (few.high - few.low) / 2


def test_the_curves_end_where_everybody_is_contacted() -> None:
    y, p = _scored(400)
    drawn = curves(y, p)
    assert drawn["gains"][0] == [0, 0]
    assert drawn["gains"][-1] == [1, 1]
    recall, precision = drawn["precision_recall"][-1]
    assert recall == 1
    assert y.mean() <= precision < 1
    shares, found = np.array(drawn["gains"]).T
    assert (np.diff(found) >= 0).all()
    assert (found[1:-1] > shares[1:-1]).all()
