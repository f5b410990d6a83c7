from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler

from churn_serving.errors import DataError
from churn_serving.learning import candidates, training
from churn_serving.learning.candidates import (
    CANDIDATES,
    KINDS,
    Candidate,
    churn_probabilities,
)
from churn_serving.learning.compile import compile_model
from churn_serving.learning.measuring.fingerprints import fingerprints, seen
from churn_serving.learning.selection import corrected_standard_error, simplest
from churn_serving.learning.splits import customers_of, hold_out
from churn_serving.learning.training import Champion, train
from tests.package.tables import rows_of

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Dataset
    from churn_serving.learning.training import TrainingResult
    from tests.package.conftest import TrainingRun

NAMES = [candidate.name for candidate in CANDIDATES]
CV_METRICS = {"auc", "pr_auc", "log_loss", "brier"}
HELD_OUT = {*CV_METRICS, "f1", "precision", "recall", "lift_5", "lift_10", "lift_20"}


def _split(dataset: Dataset, seed: int) -> tuple[Any, Any]:
    """Return the rows that are trained on and the rows that are held out."""
    split = hold_out(customers_of(dataset), share=0.2, seed=seed)
    return split.train, split.test


def _probabilities(result: TrainingResult, X: FloatArray) -> FloatArray:
    return churn_probabilities(result.estimator, X)


def _weights(result: TrainingResult) -> bytes:
    weights: bytes = result.estimator["classifier"].coef_.tobytes()
    return weights


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
        assert _weights(first) == _weights(second)


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
    assert _weights(changed) == _weights(original)
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
    assert _weights(changed) != _weights(original)


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_each_fold_scales_by_its_own_training_rows_only(
    small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[set[bytes]] = []
    unseen: list[bool] = []

    class RecordingScaler(StandardScaler):  # type: ignore[misc] # scikit-learn is untyped
        def fit(self, X: FloatArray, y: Any = None, **_: Any) -> RecordingScaler:
            self.rows = {row.tobytes() for row in X}
            fitted.append(self.rows)
            super().fit(X, y)
            return self

        def transform(self, X: FloatArray) -> FloatArray:
            unseen.append(self.rows.isdisjoint(row.tobytes() for row in X))
            scaled: FloatArray = super().transform(X)
            return scaled

    # A total nobody else has tells the customers apart.
    distinct = small.X + np.arange(small.rows)[:, None] * 1e-6
    monkeypatch.setattr(candidates, "StandardScaler", RecordingScaler)
    # Without the raw columns: what they would add takes fits of its own.
    train(replace(small, X=distinct, categories=None), model="logistic", seed=0)

    seen = {distinct[row].tobytes() for row in _split(small, seed=0)[0]}
    assert [len(rows) for rows in fitted] == [256] * 15 + [320]
    assert all(rows < seen for rows in fitted[:-1])
    assert fitted[-1] == seen
    # Each scales what it was fitted on, then what it was not; the effects of fields come last.
    assert unseen[:32] == [False, True] * 16


def test_the_registered_model_is_the_one_that_was_measured(
    training_run: TrainingRun, telco: Dataset
) -> None:
    result = training_run.result
    _, held_out = _split(telco, seed=42)
    y, probabilities = telco.y[held_out], _probabilities(result, telco.X[held_out])
    assert result.held_out["auc"].value == pytest.approx(roc_auc_score(y, probabilities), abs=1e-12)
    f1 = f1_score(y, probabilities >= result.threshold)
    assert result.held_out["f1"].value == pytest.approx(f1, abs=1e-12)
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
    logistic, boosting = (v.scores["log_loss"] for v in result.cross_validation)
    # Boosting is a little better, but not surely so.
    assert 0 < (logistic - boosting).mean() <= corrected_standard_error(logistic - boosting)
    selection = result.measured["selection"]
    assert (selection["chosen"], selection["best"]) == ("logistic", "hist-gradient-boosting")
    behind = selection["behind_the_best"]["logistic"]
    assert behind["value"] == (logistic - boosting).mean()
    assert behind["low"] < 0 < behind["value"] < behind["high"]


def test_every_figure_stands_with_an_interval_around_it(training_run: TrainingRun) -> None:
    result = training_run.result
    assert set(result.held_out) == HELD_OUT
    for metrics in (result.held_out, *(v.metrics for v in result.cross_validation)):
        assert set(metrics) >= CV_METRICS
        for name, estimate in metrics.items():
            assert 0 < estimate.low < estimate.value < estimate.high < (4 if "lift" in name else 1)
            assert estimate.high - estimate.low < (0.8 if "lift" in name else 0.15)


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
    (kind,) = [type(c.estimator) for c in CANDIDATES if c.name == model]
    assert [name for name, _ in result.estimator.steps] == ["scaler", "classifier"]
    assert isinstance(result.estimator["classifier"], kind)
    assert result.scaler is result.estimator["scaler"]
    assert progress[-1][1:] == (17, 17)


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_training_leaves_the_candidates_unfitted(small: Dataset) -> None:
    train(small, seed=5)
    for candidate in CANDIDATES:
        assert not hasattr(candidate.estimator, "classes_")
        assert candidate.estimator.random_state is None


def _losses(mean: float, *differences: float) -> FloatArray:
    """Return fold losses that rise and fall alike, and differ by a little."""
    folds: FloatArray = np.array([0.30, 0.50, 0.40, 0.35, 0.45])
    folds += mean - 0.40 + np.array(differences or [0.0] * 5)
    return folds


@pytest.mark.parametrize(
    ("simple", "chosen"),
    [
        (_losses(0.40), 0),  # a tie goes to the simpler
        (_losses(0.39), 0),  # the best is the simplest
        # 0.002 worse in every fold, though the folds differ by 0.2: surely worse.
        (_losses(0.402), 1),
        # The same mean, now better and now worse: the corrected error is 0.0067.
        (_losses(0.402, 0.01, -0.01, 0.01, -0.01, 0), 0),
        (_losses(0.410, 0.01, -0.01, 0.01, -0.01, 0), 1),
    ],
)
def test_the_simplest_that_is_not_surely_worse_fold_by_fold_is_chosen(
    simple: FloatArray, chosen: int
) -> None:
    assert simplest([simple, _losses(0.40)]) == chosen


def test_of_three_candidates_the_simplest_good_enough_one_is_chosen() -> None:
    middle = _losses(0.402, 0.01, -0.01, 0.01, -0.01, 0)
    assert simplest([_losses(0.50), middle, _losses(0.40)]) == 1


def test_the_standard_error_is_corrected_for_overlapping_folds() -> None:
    # By hand: mean 3, variance (4 + 1 + 0 + 1 + 4) / 4 = 2.5, one test row to four training rows.
    scores = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert corrected_standard_error(scores) == pytest.approx(sqrt((1 / 5 + 1 / 4) * 2.5))
    # Three repeats of the same folds: variance 30 / 14, and the correction does not shrink.
    by_hand = sqrt((1 / 15 + 1 / 4) * 30 / 14)
    assert corrected_standard_error(np.tile(scores, 3)) == pytest.approx(by_hand)


def test_the_kept_threshold_is_the_best_one_out_of_fold(
    training_run: TrainingRun, telco: Dataset
) -> None:
    result = training_run.result
    trained, _ = _split(telco, seed=42)
    chosen = next(v for v in result.cross_validation if v.candidate == result.candidate)
    best = max(
        f1_score(telco.y[trained], chosen.probabilities >= candidate)
        for candidate in np.linspace(0.01, 0.99, 99)
    )
    assert f1_score(telco.y[trained], chosen.probabilities >= result.threshold) >= best


@pytest.mark.parametrize(("left", "stayed"), [(1, 1), (1, 40), (4, 40), (40, 4), (5, 40)])
def test_refuses_a_table_too_small_to_be_cross_validated(
    left: int, stayed: int, telco: Dataset
) -> None:
    rows = np.concatenate(
        [np.flatnonzero(telco.y == 1)[:left], np.flatnonzero(telco.y == 0)[:stayed]]
    )
    with pytest.raises(DataError, match=r"customers who left and .*customers who stayed"):
        train(rows_of(telco, rows))


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_trains_on_as_few_as_ten_customers_of_each_kind(telco: Dataset) -> None:
    rows = np.concatenate([np.flatnonzero(telco.y == label)[:10] for label in (0, 1)])
    result = train(rows_of(telco, rows), model="logistic")
    assert (result.train_rows, result.test_rows) == (16, 4)
    assert np.isfinite([estimate.value for estimate in result.held_out.values()]).all()
    json.dumps(result.measured, allow_nan=False)


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_customers_who_all_come_ten_times_give_the_figures_of_once(telco: Dataset) -> None:
    once = train(rows_of(telco, np.arange(300)), model="logistic", seed=42)
    rows = np.tile(np.arange(300), 10)
    ten_times = train(rows_of(telco, rows, groups=rows), model="logistic", seed=42)
    for part in ("value", "low", "high"):
        figures = (getattr(each.held_out["auc"], part) for each in (once, ten_times))
        assert next(figures) == pytest.approx(next(figures), abs=0.02)
    assert (once.test_rows, ten_times.test_rows) == (60, 600)
    assert ten_times.measured["split"] == {
        "by": "customer",
        "customers": 300,
        "rows_left_out": 0,
        "repeated_rows": 2700,
        "conflicting_customers": 0,
        "customers_on_both_sides": 0,
        "identical_rows_on_both_sides": 0,
    }
    # 600 rows of 60 customers are no large test set.
    assert any("fewer than 50 of a kind" in sentence for sentence in ten_times.stopped)


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_a_forest_that_knows_its_customers_by_heart_gains_nothing_by_it(telco: Dataset) -> None:
    rows = np.tile(np.arange(150), 10)
    forest = Candidate("forest", RandomForestClassifier(n_estimators=5))
    run = training._Run(rows_of(telco, rows, groups=None), 0, None)
    assert 0.6 < run.result((forest,), None).held_out["auc"].value < 0.9
    # Had each row counted as another customer, it would have met all of them before.
    naive = training._Run(rows_of(telco, rows), 0, None)
    assert naive.result((forest,), None).held_out["auc"].value > 0.98


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_customers_said_to_have_left_and_stayed_are_told_of(small: Dataset) -> None:
    rows = np.r_[np.arange(300), 7]
    table = rows_of(small, rows, groups=None)
    y = table.y.copy()
    y[-1] = 1 - y[7]
    result = train(replace(table, y=y), model="logistic")
    assert result.measured["split"]["conflicting_customers"] == 1
    assert any("left and to have stayed, in rows 8, 301." in each for each in result.notices)
    # What is kept with the model tells of no single customer.
    assert "301" not in str(result.measured["notices"])


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_a_model_of_labels_of_which_45_percent_are_flipped_is_stopped(telco: Dataset) -> None:
    flipped = np.random.default_rng(0).random(telco.rows) < 0.45
    table = replace(telco, groups=np.arange(telco.rows))
    result = train(
        replace(table, y=np.where(flipped, 1 - telco.y, telco.y)), model="logistic", seed=0
    )
    assert len(result.stopped) == 1
    assert "better than saying" in result.stopped[0]
    outcomes = {each["gate"]: each["outcome"] for each in result.measured["gates"]}
    assert outcomes == {"test-size": "passed", "skill": "stopped", "leak": "passed"}


def test_a_model_of_the_public_data_passes_every_gate(training_run: TrainingRun) -> None:
    assert training_run.result.stopped == ()
    assert {each.outcome for each in training_run.result.verdicts} == {"passed"}


def test_the_public_model_means_what_it_says(training_run: TrainingRun) -> None:
    measured = training_run.result.measured["calibration"]
    assert measured["passed"]
    assert not measured["corrected"]
    assert measured["slope"]["value"] == pytest.approx(1.00, abs=0.005)
    assert measured["slope"]["low"] == pytest.approx(0.89, abs=0.02)
    assert measured["slope"]["high"] == pytest.approx(1.14, abs=0.03)
    assert measured["intercept"]["value"] == pytest.approx(-0.01, abs=0.005)
    assert measured["error"] == pytest.approx(0.021, abs=0.001)
    assert measured["chance"]["mean"] == pytest.approx(0.023, abs=0.001)


def test_what_is_kept_is_json_and_has_every_figure(training_run: TrainingRun) -> None:
    measured = training_run.result.measured
    text = json.dumps(measured, allow_nan=False)
    assert "null" not in text  # BentoML's metadata know no such value
    assert len(text) < 30_000
    assert measured["candidate"] == "logistic"
    assert (measured["train_rows"], measured["test_rows"]) == (5634, 1409)
    assert set(measured["cross_validation"]) == set(NAMES)
    assert set(measured["held_out"]) == HELD_OUT
    assert set(measured["no_skill"]) == {*HELD_OUT, "probability"}
    assert measured["profit"]["per_customer"]["low"] > 0
    threshold = measured["threshold"]
    assert threshold["low"] < threshold["value"] < threshold["high"]
    assert threshold["value"] == training_run.result.threshold
    assert measured["held_out"]["log_loss"]["high"] < measured["no_skill"]["log_loss"]
    assert "does not say when" in measured["label"]
    assert any("two-year: none of the 9 customers" in each for each in measured["notices"])
    *_, two_years = measured["subgroups"]["contract_type"]
    assert (two_years["name"], two_years["recall"]["value"]) == ("two-year", 0)
    fields = measured["fields"]
    assert (fields["columns"], round(fields["fields"], 2)) == (19, 0.84)
    assert 0.002 < fields["all_columns"] - fields["fields"] < 0.007


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_a_candidate_whose_probabilities_are_wrong_gets_a_sigmoid(telco: Dataset) -> None:
    steps: list[tuple[str, int, int]] = []
    table = rows_of(telco, np.arange(3000))
    run = training._Run(table, 0, lambda *step: steps.append(step))
    result = run.result((Candidate("bayes", GaussianNB()),), None)
    classifier = result.estimator["classifier"]
    assert isinstance(classifier, CalibratedClassifierCV)
    assert len(classifier.calibrated_classifiers_) == 1
    assert (classifier.method, classifier.cv) == ("sigmoid", 5)
    assert result.measured["calibration"]["corrected"]
    assert result.measured["calibration"]["slope"]["value"] == pytest.approx(1, abs=0.2)
    assert steps[14][0] == "cross-validating bayes"
    assert steps[15][0] == "calibrating bayes"
    assert steps[-1][1:] == (32, 32)


def test_the_sigmoid_is_fitted_on_customers_that_its_model_has_not_seen(small: Dataset) -> None:
    met: list[bool] = []

    class Recording(GaussianNB):  # type: ignore[misc] # scikit-learn is untyped
        def fit(self, X: FloatArray, y: Any, sample_weight: Any = None) -> Recording:
            self.rows = {row.tobytes() for row in X}
            super().fit(X, y, sample_weight)
            return self

        def predict_proba(self, X: FloatArray) -> Any:
            met.append(not self.rows.isdisjoint(row.tobytes() for row in X))
            return super().predict_proba(X)

    X, groups = np.tile(small.X[:200], (3, 1)), np.tile(np.arange(200), 3)
    candidate = candidates.calibrated(Candidate("bayes", Recording()))
    candidates.fit(candidate, X, np.tile(small.y[:200], 3), 0, groups)
    assert met == [False] * 5


@pytest.mark.usefixtures("few_bootstrap_samples")
@pytest.mark.parametrize("kind", [kind.name for kind in KINDS if kind not in CANDIDATES])
def test_every_kind_can_be_trained_and_twice_the_same(
    kind: str, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [
        replace(each, estimator=clone(each.estimator).set_params(n_estimators=5))
        if "n_estimators" in each.estimator.get_params()
        else each
        for each in KINDS
    ]
    monkeypatch.setattr(training, "KINDS", few)
    first, second = (train(small, model=kind, seed=3) for _ in range(2))
    assert first.candidate == kind
    assert _probabilities(first, small.X).tobytes() == _probabilities(second, small.X).tobytes()
    compile_model(first.estimator)


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_the_latest_customers_are_held_out_where_the_table_has_a_time(telco: Dataset) -> None:
    months = np.random.default_rng(0).permutation(np.arange(500) % 10) + 1
    result = train(rows_of(telco, np.arange(500), time=months), model="logistic")
    assert (result.train_rows, result.test_rows) == (400, 100)
    assert result.measured["split"]["by"] == "time"
    assert result.measured["split"]["since"] == "9"
    assert seen(result.known, telco.X[:500][months <= 8]).all()


def test_a_time_since_when_nobody_left_is_refused(telco: Dataset) -> None:
    rows = np.argsort(-telco.y[:500], kind="stable")
    with pytest.raises(DataError, match="those since 400, 0 left"):
        train(rows_of(telco, rows, time=np.arange(500)))


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_a_champion_is_asked_only_about_customers_whom_it_has_not_seen(telco: Dataset) -> None:
    table = rows_of(telco, np.arange(2500))
    first = train(table, model="logistic", seed=1)
    oracle = dict(zip([row.tobytes() for row in telco.X], telco.y.tolist(), strict=True))

    def knows_all(X: FloatArray) -> FloatArray:
        return np.array([0.05 + 0.9 * oracle[row.tobytes()] for row in X])

    def verdict(champion: Champion) -> tuple[str, str]:
        found = train(table, model="logistic", seed=1, champion=champion).verdicts[-1]
        assert found.gate == "champion"
        return found.outcome, found.sentence

    outcome, sentence = verdict(Champion(knows_all, first.known))
    assert outcome == "stopped"
    assert sentence.startswith("Worse than the champion: on ")
    itself = Champion(lambda X: _probabilities(first, X), first.known)
    assert verdict(itself)[0] == "passed"
    assert verdict(Champion(knows_all, fingerprints(table.X)))[0] == "skipped"
    assert verdict(Champion(knows_all, None)) == (
        "skipped",
        "Not compared with the champion: nobody knows which customers it was trained on.",
    )


@pytest.mark.usefixtures("few_bootstrap_samples")
def test_the_fingerprints_are_those_of_the_training_rows(small: Dataset) -> None:
    result = train(small, model="logistic", seed=3)
    trained, held_out = _split(small, seed=3)
    assert seen(result.known, small.X[trained]).all()
    assert not seen(result.known, small.X[held_out]).any()
