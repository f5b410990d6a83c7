from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from churn_serving.errors import DataError
from churn_serving.learning import training
from churn_serving.learning.training import CANDIDATES, CrossValidation, Estimate, train

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Dataset
    from churn_serving.learning.training import TrainingResult
    from tests.package.conftest import TrainingRun

NAMES = [candidate.name for candidate in CANDIDATES]
CV_METRICS = {"auc", "log_loss", "brier"}


def _split(dataset: Dataset, seed: int) -> tuple[Any, Any]:
    """Return the rows that are trained on and the rows that are held out."""
    train_rows, test_rows = train_test_split(
        np.arange(dataset.rows), test_size=0.2, stratify=dataset.y, random_state=seed
    )
    return train_rows, test_rows


def _probabilities(result: TrainingResult, X: FloatArray) -> FloatArray:
    probabilities: FloatArray = result.estimator.predict_proba(result.scaler.transform(X))[:, 1]
    return probabilities


def _validation(candidate: str, log_loss: float, standard_error: float) -> CrossValidation:
    return CrossValidation(
        candidate=candidate,
        metrics={"log_loss": Estimate(log_loss, log_loss, log_loss)},
        standard_error=standard_error,
        probabilities=np.array([]),
    )


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.usefixtures("few_bootstrap_samples")
def test_the_same_data_and_seed_give_the_same_model_bit_for_bit(model: str, small: Dataset) -> None:
    first, second = (train(small, model=model, seed=7) for _ in range(2))
    assert _probabilities(first, small.X).tobytes() == _probabilities(second, small.X).tobytes()
    assert first.scaler.mean_.tobytes() == second.scaler.mean_.tobytes()
    assert first.threshold == second.threshold
    assert first.held_out == second.held_out
    one, other = first.cross_validation[0], second.cross_validation[0]
    assert one.metrics == other.metrics
    assert one.probabilities.tobytes() == other.probabilities.tobytes()
    if model == "logistic":
        assert first.estimator.coef_.tobytes() == second.estimator.coef_.tobytes()


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_another_seed_holds_out_other_customers(small: Dataset) -> None:
    first, second = (train(small, model="logistic", seed=seed) for seed in (1, 2))
    assert (first.scaler.mean_ != second.scaler.mean_).any()
    assert first.held_out != second.held_out


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_the_model_never_sees_a_held_out_customer(small: Dataset) -> None:
    _, held_out = _split(small, seed=3)
    X = small.X.copy()
    X[held_out] = X[held_out][::-1] * 3
    original, changed = (
        train(dataset, model="logistic", seed=3) for dataset in (small, replace(small, X=X))
    )
    assert changed.estimator.coef_.tobytes() == original.estimator.coef_.tobytes()
    assert changed.scaler.mean_.tobytes() == original.scaler.mean_.tobytes()
    assert changed.threshold == original.threshold
    assert changed.cross_validation[0].metrics == original.cross_validation[0].metrics
    assert changed.held_out != original.held_out


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_the_model_does_see_every_other_customer(small: Dataset) -> None:
    seen, _ = _split(small, seed=3)
    original = train(small, model="logistic", seed=3)
    assert original.train_rows == len(seen)
    X = small.X.copy()
    X[seen[-1], 2] += 1000
    changed = train(replace(small, X=X), model="logistic", seed=3)
    assert changed.estimator.coef_.tobytes() != original.estimator.coef_.tobytes()


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_each_fold_scales_by_its_own_training_rows_only(
    small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[set[bytes]] = []
    unseen: list[bool] = []

    class RecordingScaler(StandardScaler):  # type: ignore[misc] # scikit-learn is untyped
        def fit(self, X: FloatArray) -> RecordingScaler:
            self.rows = {row.tobytes() for row in X}
            fitted.append(self.rows)
            super().fit(X)
            return self

        def transform(self, X: FloatArray) -> FloatArray:
            unseen.append(self.rows.isdisjoint(row.tobytes() for row in X))
            scaled: FloatArray = super().transform(X)
            return scaled

    # A total nobody else has tells the customers apart.
    distinct = small.X + np.arange(small.rows)[:, None] * 1e-6
    monkeypatch.setattr(training, "StandardScaler", RecordingScaler)
    train(replace(small, X=distinct), model="logistic", seed=0)

    seen = {distinct[row].tobytes() for row in _split(small, seed=0)[0]}
    assert [len(rows) for rows in fitted] == [256] * 15 + [320]
    assert all(rows < seen for rows in fitted[:-1])
    assert fitted[-1] == seen
    assert unseen == [False, True] * 16  # each scales what it was fitted on, then what it was not


def test_the_registered_model_is_the_one_that_was_measured(
    training_run: TrainingRun, telco: Dataset
) -> None:
    result = training_run.result
    _, held_out = _split(telco, seed=42)
    y, probabilities = telco.y[held_out], _probabilities(result, telco.X[held_out])
    assert result.held_out["auc"].value == roc_auc_score(y, probabilities)
    assert result.held_out["f1"].value == f1_score(y, probabilities >= result.threshold)
    assert (result.train_rows, result.test_rows) == (5634, 1409)


def test_the_public_data_gives_the_reference_figures(training_run: TrainingRun) -> None:
    figures = {v.candidate: v.metrics for v in training_run.result.cross_validation}
    assert list(figures) == NAMES
    assert figures["logistic"]["auc"].value >= 0.838
    assert figures["logistic"]["auc"].value == pytest.approx(0.840, abs=0.003)
    assert figures["logistic"]["brier"].value == pytest.approx(0.138, abs=0.0015)
    assert figures["hist-gradient-boosting"]["auc"].value == pytest.approx(0.842, abs=0.003)
    assert figures["hist-gradient-boosting"]["brier"].value == pytest.approx(0.137, abs=0.0015)


def test_logistic_regression_is_chosen_on_the_public_data(training_run: TrainingRun) -> None:
    result = training_run.result
    assert result.candidate == "logistic"
    logistic, boosting = (v.metrics["log_loss"].value for v in result.cross_validation)
    assert logistic <= boosting + result.cross_validation[1].standard_error


def test_every_figure_stands_with_an_interval_around_it(training_run: TrainingRun) -> None:
    result = training_run.result
    assert set(result.held_out) == {*CV_METRICS, "f1"}
    for metrics in (result.held_out, *(v.metrics for v in result.cross_validation)):
        assert set(metrics) >= CV_METRICS
        for estimate in metrics.values():
            assert 0 < estimate.low < estimate.value < estimate.high < 1
            assert estimate.high - estimate.low < 0.15


def test_each_customer_has_one_out_of_fold_probability(training_run: TrainingRun) -> None:
    for validation in training_run.result.cross_validation:
        assert validation.probabilities.shape == (5634,)
        assert ((validation.probabilities > 0) & (validation.probabilities < 1)).all()


def test_progress_counts_up_one_by_one_to_the_announced_number_of_steps(
    training_run: TrainingRun,
) -> None:
    descriptions, done, steps = zip(*training_run.progress, strict=True)
    assert set(steps) == {len(done)}
    assert list(done) == list(range(1, len(done) + 1))
    changes = [descriptions[0], *(b for a, b in pairwise(descriptions) if a != b)]
    assert changes == [
        "cross-validating logistic",
        "cross-validating hist-gradient-boosting",
        "fitting logistic",
        "measuring on held-out customers",
    ]


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.usefixtures("few_bootstrap_samples")
def test_only_the_asked_for_candidate_is_trained(model: str, small: Dataset) -> None:
    progress: list[tuple[str, int, int]] = []
    result = train(small, model=model, progress=lambda *step: progress.append(step))
    assert result.candidate == model
    assert [v.candidate for v in result.cross_validation] == [model]
    assert isinstance(
        result.estimator, type(next(c.estimator for c in CANDIDATES if c.name == model))
    )
    assert progress[-1][1:] == (17, 17)


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_training_leaves_the_candidates_unfitted(small: Dataset) -> None:
    train(small, seed=5)
    for candidate in CANDIDATES:
        assert not hasattr(candidate.estimator, "classes_")
        assert candidate.estimator.random_state is None


@pytest.mark.parametrize(
    ("losses", "standard_errors", "chosen"),
    [
        ((0.40, 0.40), (0.01, 0.01), "simple"),  # a tie goes to the simpler
        ((0.39, 0.40), (0.01, 0.01), "simple"),  # the best is the simplest
        ((0.41, 0.40), (0.00, 0.02), "simple"),  # within one standard error of the best
        ((0.42, 0.40), (0.00, 0.02), "simple"),  # exactly one standard error away
        ((0.4201, 0.40), (0.50, 0.02), "complex"),  # the best one's error counts, not its own
        ((0.50, 0.40), (0.01, 0.01), "complex"),
    ],
)
def test_the_simplest_within_one_standard_error_of_the_best_is_chosen(
    losses: tuple[float, float], standard_errors: tuple[float, float], chosen: str
) -> None:
    validations = tuple(
        _validation(*each)
        for each in zip(("simple", "complex"), losses, standard_errors, strict=True)
    )
    assert training._simplest_within_one_standard_error(validations).candidate == chosen


def test_of_three_candidates_the_simplest_good_enough_one_is_chosen() -> None:
    validations = (
        _validation("simplest", 0.50, 0.01),
        _validation("middle", 0.405, 0.01),
        _validation("best", 0.40, 0.01),
    )
    assert training._simplest_within_one_standard_error(validations).candidate == "middle"


def test_the_standard_error_is_corrected_for_overlapping_folds() -> None:
    # By hand: mean 3, variance (4 + 1 + 0 + 1 + 4) / 4 = 2.5, one test row to four training rows.
    by_hand = sqrt((1 / 5 + 1 / 4) * 2.5)
    assert training._corrected_standard_error([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(by_hand)
    # Three repeats of the same folds: variance 30 / 14, and the correction does not shrink.
    by_hand = sqrt((1 / 15 + 1 / 4) * 30 / 14)
    repeated = [1.0, 2.0, 3.0, 4.0, 5.0] * 3
    assert training._corrected_standard_error(repeated) == pytest.approx(by_hand)


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_has_a_better_f1_than_the_one_that_is_kept(seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.uniform(size=60).round(1 + seed % 3)  # with ties
    y = (random.uniform(size=60) < probabilities).astype(np.int64)
    threshold = training._best_f1_threshold(y, probabilities)
    brute_force = max(f1_score(y, probabilities >= candidate) for candidate in set(probabilities))
    assert f1_score(y, probabilities >= threshold) == pytest.approx(brute_force, abs=1e-12)
    assert isinstance(threshold, float)


def test_the_kept_threshold_is_the_best_one_out_of_fold(
    training_run: TrainingRun, telco: Dataset
) -> None:
    result = training_run.result
    seen, _ = _split(telco, seed=42)
    chosen = next(v for v in result.cross_validation if v.candidate == result.candidate)
    best = max(
        f1_score(telco.y[seen], chosen.probabilities >= candidate)
        for candidate in np.linspace(0.01, 0.99, 99)
    )
    assert f1_score(telco.y[seen], chosen.probabilities >= result.threshold) >= best


@pytest.mark.parametrize(("left", "stayed"), [(1, 1), (1, 40), (4, 40), (40, 4), (5, 40)])
def test_refuses_a_table_too_small_to_be_cross_validated(
    left: int, stayed: int, telco: Dataset
) -> None:
    rows = np.concatenate(
        [np.flatnonzero(telco.y == 1)[:left], np.flatnonzero(telco.y == 0)[:stayed]]
    )
    with pytest.raises(DataError, match=r"customers who left and .*customers who stayed"):
        train(replace(telco, X=telco.X[rows], y=telco.y[rows]))


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_trains_on_as_few_as_ten_customers_of_each_kind(telco: Dataset) -> None:
    rows = np.concatenate([np.flatnonzero(telco.y == label)[:10] for label in (0, 1)])
    result = train(replace(telco, X=telco.X[rows], y=telco.y[rows]), model="logistic")
    assert (result.train_rows, result.test_rows) == (16, 4)
    assert np.isfinite([estimate.value for estimate in result.held_out.values()]).all()
