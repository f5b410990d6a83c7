from __future__ import annotations

import logging
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from churn_serving.errors import ScoringError
from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.features.rows import verification_matrix
from churn_serving.model import scoring
from churn_serving.model.scoring import EstimatorScorer, LinearScorer, TreeScorer, make_scorer
from tests.package.conftest import Fitted

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row
    from churn_serving.learning.dataset import Dataset
    from churn_serving.model.scoring import Scorer

COLUMNS = len(COLUMN_NAMES)


def _by_row(scorer: Scorer, X: FloatArray) -> FloatArray:
    return np.array([scorer.score_row(tuple(row)) for row in X.tolist()])


def _furthest(scorer: Scorer, fitted: Fitted, X: FloatArray) -> float:
    """Return the largest difference from scikit-learn, over both ways to score."""
    expected = fitted.predict_proba(X)
    scored = scorer.score(X)
    assert scored.shape == expected.shape
    return float(max(np.abs(scored - expected).max(), np.abs(_by_row(scorer, X) - expected).max()))


def _unscaled() -> StandardScaler:
    """Return a scaler that changes nothing, so that thresholds are met exactly."""
    scaler = StandardScaler().fit(np.zeros((2, COLUMNS)))
    assert (scaler.transform(np.full((1, COLUMNS), 0.1)) == 0.1).all()
    return scaler


def _boosted(dataset: Dataset, scaler: StandardScaler, **settings: Any) -> Fitted:
    estimator = HistGradientBoostingClassifier(
        early_stopping=False, random_state=0, **{"max_iter": 10, "min_samples_leaf": 5, **settings}
    )
    return Fitted(estimator.fit(scaler.transform(dataset.X), dataset.y), scaler, dataset.X)


def _trees(fitted: Fitted) -> list[Any]:
    return [iteration[0].nodes for iteration in fitted.estimator._predictors]


def _at_every_threshold(fitted: Fitted, start: FloatArray) -> FloatArray:
    """Return rows that stand exactly at each threshold of the trees, just below and just above."""
    rows: list[FloatArray] = []
    for nodes in _trees(fitted):
        for node in nodes[nodes["is_leaf"] == 0]:
            at = node["num_threshold"]
            for value in (at, np.nextafter(at, -np.inf), np.nextafter(at, np.inf)):
                row = start[len(rows) // 3 % len(start)].copy()
                row[node["feature_idx"]] = value
                rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("seed", range(5))
def test_the_linear_scorer_answers_like_predict_proba(seed: int, logistic: Fitted) -> None:
    scorer = LinearScorer(logistic.estimator, logistic.scaler)
    assert _furthest(scorer, logistic, verification_matrix(400, seed)) <= 1e-12


def test_the_linear_scorer_answers_like_predict_proba_for_all_public_customers(
    logistic: Fitted,
) -> None:
    scorer = LinearScorer(logistic.estimator, logistic.scaler)
    assert _furthest(scorer, logistic, logistic.X) <= 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_the_tree_scorer_answers_like_predict_proba(seed: int, boosting: Fitted) -> None:
    scorer = TreeScorer(boosting.estimator, boosting.scaler)
    assert _furthest(scorer, boosting, verification_matrix(400, seed)) <= 1e-9


def test_the_tree_scorer_answers_like_predict_proba_for_all_public_customers(
    boosting: Fitted,
) -> None:
    scorer = TreeScorer(boosting.estimator, boosting.scaler)
    assert _furthest(scorer, boosting, boosting.X) <= 1e-9


def test_the_tree_scorer_goes_left_exactly_at_a_threshold(telco: Dataset) -> None:
    fitted = _boosted(telco, _unscaled(), max_leaf_nodes=8)
    X = _at_every_threshold(fitted, telco.X)
    assert len(X) == 3 * 10 * 7
    # Left and right of a threshold the answers do differ: the rows tell the two apart.
    at, below, above = (fitted.predict_proba(X[k::3]) for k in range(3))
    np.testing.assert_array_equal(at, below)
    assert (at != above).any()
    assert _furthest(TreeScorer(fitted.estimator, fitted.scaler), fitted, X) <= 1e-9


@pytest.mark.parametrize("leaves", [2, 3, 8, 9, 16, 17, 31, 32, 33, 63, 64])
def test_the_tree_scorer_is_exact_for_trees_of_up_to_64_leaves(leaves: int, telco: Dataset) -> None:
    fitted = _boosted(telco, _unscaled(), max_leaf_nodes=leaves)
    assert max(tree["is_leaf"].sum() for tree in _trees(fitted)) == leaves
    scorer = TreeScorer(fitted.estimator, fitted.scaler)
    assert _furthest(scorer, fitted, _at_every_threshold(fitted, telco.X)) <= 1e-9
    assert _furthest(scorer, fitted, verification_matrix(200)) <= 1e-9
    assert isinstance(make_scorer(fitted.estimator, fitted.scaler), TreeScorer)


def test_the_tree_scorer_is_exact_for_trees_of_different_sizes(small: Dataset) -> None:
    fitted = _boosted(small, StandardScaler().fit(small.X), max_leaf_nodes=20, min_samples_leaf=25)
    assert len({int(tree["is_leaf"].sum()) for tree in _trees(fitted)}) > 1
    scorer = TreeScorer(fitted.estimator, fitted.scaler)
    assert _furthest(scorer, fitted, verification_matrix(500)) <= 1e-9


def test_the_tree_scorer_is_exact_for_trees_that_are_a_single_leaf(small: Dataset) -> None:
    fitted = _boosted(small, _unscaled(), max_iter=3, min_samples_leaf=small.rows)
    assert all(len(tree) == 1 for tree in _trees(fitted))
    scorer = TreeScorer(fitted.estimator, fitted.scaler)
    assert _furthest(scorer, fitted, small.X) <= 1e-9


def test_the_tree_scorer_refuses_trees_of_more_than_64_leaves(telco: Dataset) -> None:
    fitted = _boosted(telco, _unscaled(), max_leaf_nodes=65)
    assert max(tree["is_leaf"].sum() for tree in _trees(fitted)) == 65
    with pytest.raises(ValueError, match="more than 64 leaves"):
        TreeScorer(fitted.estimator, fitted.scaler)


def test_the_tree_scorer_refuses_categorical_splits(telco: Dataset) -> None:
    fitted = _boosted(telco, _unscaled(), categorical_features=[3])
    assert any(tree["is_categorical"].any() for tree in _trees(fitted))
    with pytest.raises(ValueError, match="categorical"):
        TreeScorer(fitted.estimator, fitted.scaler)


def test_the_tree_scorer_refuses_a_table_of_masks_that_is_too_large(
    boosting: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_MAX_MASK_BYTES", 10_000)
    with pytest.raises(ValueError, match="too many nodes"):
        TreeScorer(boosting.estimator, boosting.scaler)


@pytest.mark.parametrize("kind", ["logistic", "boosting"])
def test_a_row_scores_alike_alone_and_in_any_company(
    kind: str, request: pytest.FixtureRequest
) -> None:
    fitted: Fitted = request.getfixturevalue(kind)
    scorer = make_scorer(fitted.estimator, fitted.scaler)
    X = verification_matrix(64, seed=9)
    together = scorer.score(X)
    for rows in (slice(0, 1), slice(5, 12), slice(None, None, -1)):
        np.testing.assert_allclose(scorer.score(X[rows]), together[rows], rtol=0, atol=1e-15)
    np.testing.assert_allclose(_by_row(scorer, X), together, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", ["logistic", "boosting"])
def test_scoring_leaves_the_matrix_as_it_was(kind: str, request: pytest.FixtureRequest) -> None:
    fitted: Fitted = request.getfixturevalue(kind)
    for scorer in (
        make_scorer(fitted.estimator, fitted.scaler),
        EstimatorScorer(fitted.estimator, fitted.scaler),
    ):
        X = verification_matrix(16)
        scorer.score(X)
        np.testing.assert_array_equal(X, verification_matrix(16))


@pytest.mark.parametrize("logit", [-1e308, -1e4, -800.0, -40.0, 0.0, 40.0, 800.0, 1e4, 1e308])
def test_extreme_logits_give_a_probability_and_no_overflow(logit: float) -> None:
    estimator = SimpleNamespace(coef_=np.eye(1, COLUMNS), intercept_=np.zeros(1))
    linear: Any = LinearScorer
    scorer: LinearScorer = linear(estimator, _unscaled())
    row: Row = (logit, *[0.0] * (COLUMNS - 1))
    expected = 1.0 if logit > 700 else 0.0 if logit < -745 else 1 / (1 + math.exp(-logit))
    assert scorer.score_row(row) == pytest.approx(expected, rel=1e-12, abs=0)
    assert scorer.score(np.array([row]))[0] == pytest.approx(expected, rel=1e-12, abs=0)


def test_charges_as_large_as_json_allows_still_give_a_probability(
    logistic: Fitted, boosting: Fitted
) -> None:
    X = verification_matrix(4)
    X[:, 2] = [1e6, 1e12, 1e100, 1.7e308]
    for fitted in (logistic, boosting):
        scorer = make_scorer(fitted.estimator, fitted.scaler)
        for scored in (scorer.score(X), _by_row(scorer, X)):
            assert ((scored >= 0) & (scored <= 1)).all()


def test_any_other_estimator_is_scored_by_its_own_predict_proba(
    telco: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    scaler = StandardScaler().fit(telco.X)
    forest = RandomForestClassifier(n_estimators=5, max_depth=4, random_state=0)
    fitted = Fitted(forest.fit(scaler.transform(telco.X), telco.y), scaler, telco.X)
    scorer = make_scorer(fitted.estimator, scaler)
    assert isinstance(scorer, EstimatorScorer)
    assert _furthest(scorer, fitted, verification_matrix(20)) <= 1e-15
    assert not caplog.records


def test_another_scaler_is_run_as_scikit_learn_runs_it(telco: Dataset) -> None:
    scaler = MinMaxScaler().fit(telco.X)
    estimator = LogisticRegression(max_iter=1000).fit(scaler.transform(telco.X), telco.y)
    scorer = make_scorer(estimator, scaler)
    assert isinstance(scorer, EstimatorScorer)
    fitted = Fitted(estimator, scaler, telco.X)
    assert _furthest(scorer, fitted, verification_matrix(20)) <= 1e-15


def test_the_fast_scorers_are_chosen_without_a_warning(
    logistic: Fitted, boosting: Fitted, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(make_scorer(logistic.estimator, logistic.scaler), LinearScorer)
    assert isinstance(make_scorer(boosting.estimator, boosting.scaler), TreeScorer)
    assert not caplog.records


@pytest.mark.parametrize("method", ["score", "score_row"])
@pytest.mark.parametrize("error", [1e-6, -1e-6, float("nan")])
@pytest.mark.parametrize(("kind", "fast"), [("logistic", LinearScorer), ("boosting", TreeScorer)])
def test_a_fast_scorer_that_differs_is_given_up_with_a_warning(
    *,
    kind: str,
    fast: type[Any],
    method: str,
    error: float,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fitted: Fitted = request.getfixturevalue(kind)
    honest = getattr(fast, method)
    monkeypatch.setattr(fast, method, lambda *arguments: honest(*arguments) + error)
    scorer = make_scorer(fitted.estimator, fitted.scaler)
    assert isinstance(scorer, EstimatorScorer)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Scoring with predict_proba, which is slower" in record.message
    assert fast.__name__ in record.message
    X = verification_matrix(10)
    np.testing.assert_array_equal(scorer.score(X), fitted.predict_proba(X))


@pytest.mark.parametrize(("kind", "fast"), [("logistic", LinearScorer), ("boosting", TreeScorer)])
def test_a_fast_scorer_that_raises_is_given_up_with_a_warning(
    kind: str,
    fast: type[Any],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def moved(*_: object) -> None:
        raise AttributeError("no _predictors any more")

    fitted: Fitted = request.getfixturevalue(kind)
    monkeypatch.setattr(fast, "__init__", moved)
    assert isinstance(make_scorer(fitted.estimator, fitted.scaler), EstimatorScorer)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "no _predictors any more" in record.message


def test_trees_too_large_for_the_fast_scorer_are_scored_by_predict_proba(
    telco: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    fitted = _boosted(telco, _unscaled(), max_leaf_nodes=100, max_iter=2)
    scorer = make_scorer(fitted.estimator, fitted.scaler)
    assert isinstance(scorer, EstimatorScorer)
    assert "more than 64 leaves" in caplog.text
    assert _furthest(scorer, fitted, verification_matrix(10)) <= 1e-15


def test_three_classes_are_no_churn_model(telco: Dataset) -> None:
    scaler = StandardScaler().fit(telco.X)
    estimator = LogisticRegression(max_iter=1000).fit(
        scaler.transform(telco.X[:300]), np.arange(300) % 3
    )
    with pytest.raises(ScoringError, match=r"shape \(512, 3\) for 512 customers"):
        make_scorer(estimator, scaler)


@pytest.mark.parametrize(
    "answer", [np.zeros((2, 2)), np.zeros((4, 2)), np.zeros((3, 1)), np.zeros(3), np.zeros((3, 3))]
)
def test_an_answer_of_the_wrong_shape_is_a_scoring_error(answer: FloatArray) -> None:
    estimator = SimpleNamespace(predict_proba=lambda _: answer)
    with pytest.raises(ScoringError, match="for 3 customers"):
        EstimatorScorer(estimator, _unscaled()).score(np.zeros((3, COLUMNS)))
