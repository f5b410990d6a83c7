"""Scorers made of the portable form; that the form itself is right is tested in test_compile."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from churn_serving.errors import ScoringError
from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.features.rows import verification_matrix
from churn_serving.learning.compile import compile_model, reference_probabilities
from churn_serving.model.portable import Linear, Members
from churn_serving.model.scoring import (
    EstimatorScorer,
    LinearScorer,
    MeanScorer,
    TreeScorer,
    make_scorer,
    verify,
)

if TYPE_CHECKING:
    from churn_serving.features.columns import FloatArray
    from churn_serving.features.rows import Row
    from churn_serving.learning.dataset import Dataset
    from churn_serving.model.scoring import Scorer
    from tests.package.conftest import Fitted

COLUMNS = len(COLUMN_NAMES)

KINDS: dict[str, Any] = {
    "logistic": LogisticRegression(max_iter=1000),
    "forest": RandomForestClassifier(20, random_state=0),
    "one tree": RandomForestClassifier(1, random_state=0),
    "gradient boosting": GradientBoostingClassifier(n_estimators=20, random_state=0),
    "small leaves": HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=8),
    "31 leaves": HistGradientBoostingClassifier(max_iter=20),
    "many leaves": HistGradientBoostingClassifier(max_iter=5, max_leaf_nodes=200),
    "isotonic": CalibratedClassifierCV(
        HistGradientBoostingClassifier(max_iter=20), method="isotonic", cv=2
    ),
    "sigmoid": CalibratedClassifierCV(
        RandomForestClassifier(10, random_state=0), method="sigmoid", ensemble=False
    ),
}


@pytest.fixture(scope="module", params=list(KINDS))
def pipeline(request: pytest.FixtureRequest, telco: Dataset) -> Any:
    return make_pipeline(StandardScaler(), KINDS[request.param]).fit(telco.X, telco.y)


def _scorer(pipeline: Any) -> Scorer:
    compiled = compile_model(pipeline)
    return make_scorer(compiled.model, compiled.arrays, COLUMNS)


def _by_row(scorer: Scorer, X: FloatArray) -> FloatArray:
    return np.array([scorer.score_row(tuple(row)) for row in X.tolist()])


def test_a_scorer_answers_like_its_estimator_by_row_and_by_matrix(
    pipeline: Any, telco: Dataset
) -> None:
    scorer = _scorer(pipeline)
    for X in (verification_matrix(400, seed=3), telco.X):
        expected = reference_probabilities(pipeline, X)
        np.testing.assert_allclose(scorer.score(X), expected, rtol=0, atol=1e-9)
        some = slice(None, None, max(1, len(X) // 400))
        np.testing.assert_allclose(_by_row(scorer, X[some]), expected[some], rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_linear_scorer_is_as_exact_as_doubles_are(seed: int, logistic: Fitted) -> None:
    X = verification_matrix(400, seed)
    expected = logistic.predict_proba(X)
    np.testing.assert_allclose(logistic.scorer.score(X), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(_by_row(logistic.scorer, X), expected, rtol=0, atol=1e-12)


def test_each_kind_has_its_scorer(telco: Dataset, logistic: Fitted, boosting: Fitted) -> None:
    assert isinstance(logistic.scorer, LinearScorer)
    assert isinstance(boosting.scorer, TreeScorer)
    averaged = CalibratedClassifierCV(LogisticRegression(), cv=3)
    assert isinstance(
        _scorer(make_pipeline(StandardScaler(), averaged).fit(telco.X, telco.y)), MeanScorer
    )


def test_a_row_scores_alike_alone_and_in_any_company(pipeline: Any) -> None:
    scorer = _scorer(pipeline)
    X = verification_matrix(64, seed=9)
    together = scorer.score(X)
    for rows in (slice(0, 1), slice(5, 12), slice(None, None, -1)):
        np.testing.assert_allclose(scorer.score(X[rows]), together[rows], rtol=0, atol=1e-15)
    np.testing.assert_allclose(_by_row(scorer, X), together, rtol=0, atol=1e-15)


def test_scoring_leaves_the_matrix_as_it_was(pipeline: Any) -> None:
    X = verification_matrix(16)
    _scorer(pipeline).score(X)
    np.testing.assert_array_equal(X, verification_matrix(16))


def test_no_customers_have_no_probabilities(pipeline: Any) -> None:
    assert _scorer(pipeline).score(np.empty((0, COLUMNS))).shape == (0,)


@pytest.mark.parametrize("logit", [-1e308, -1e4, -800.0, -40.0, 0.0, 40.0, 800.0, 1e4, 1e308])
def test_extreme_logits_give_a_probability_and_no_overflow(logit: float) -> None:
    model = Members(members=(Linear(bias=0.0, link="logistic"),))
    scorer = make_scorer(model, {"0/weights": np.eye(1, COLUMNS)[0]}, COLUMNS)
    row: Row = (logit, *[0.0] * (COLUMNS - 1))
    expected = 1.0 if logit > 700 else 0.0 if logit < -745 else 1 / (1 + math.exp(-logit))
    assert scorer.score_row(row) == pytest.approx(expected, rel=1e-12, abs=0)
    assert scorer.score(np.array([row]))[0] == pytest.approx(expected, rel=1e-12, abs=0)


def test_charges_as_large_as_json_allows_still_give_a_probability(pipeline: Any) -> None:
    X = verification_matrix(4)
    X[:, 2] = [1e6, 1e12, 1e100, 1.7e308]
    scorer = _scorer(pipeline)
    for scored in (scorer.score(X), _by_row(scorer, X)):
        assert ((scored >= 0) & (scored <= 1)).all()


@pytest.mark.parametrize("method", ["score", "score_row"])
@pytest.mark.parametrize("error", [1e-6, -1e-6, float("nan")])
@pytest.mark.parametrize("kind", ["logistic", "boosting"])
def test_a_scorer_that_differs_from_the_golden_rows_is_refused(
    *,
    kind: str,
    method: str,
    error: float,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fitted: Fitted = request.getfixturevalue(kind)
    model = compile_model(fitted.pipeline).model
    scorer, X = fitted.scorer, verification_matrix(64)
    golden = {"golden/X": X, "golden/p": fitted.predict_proba(X)}
    verify(scorer, model, golden)
    honest = getattr(scorer, method)
    monkeypatch.setattr(scorer, method, lambda *arguments: honest(*arguments) + error)
    with pytest.raises(ValueError, match="answers otherwise than its estimator did"):
        verify(scorer, model, golden)


@pytest.mark.parametrize(
    "answer", [np.zeros((2, 2)), np.zeros((4, 2)), np.zeros((3, 1)), np.zeros(3), np.zeros((3, 3))]
)
def test_an_answer_of_the_wrong_shape_is_a_scoring_error(answer: FloatArray) -> None:
    with pytest.raises(ScoringError, match="for 3 customers"):
        EstimatorScorer(lambda _: answer).score(np.zeros((3, COLUMNS)))
