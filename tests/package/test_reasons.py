"""Impacts are Shapley values of the fields: by the definition, by shap, and by adding up."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from itertools import combinations
from math import factorial
from typing import TYPE_CHECKING, Any, Final

import lightgbm
import numpy as np
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from churn_serving.features.columns import (
    CATEGORIES,
    COLUMN_NAMES,
    FEATURE_NAMES,
    FloatArray,
    bounds_of,
)
from churn_serving.features.rows import customer_row, feature_matrix, verification_matrix
from churn_serving.learning.compile import compile_booster, compile_model
from churn_serving.learning.compiling.inputs import table_of
from churn_serving.learning.explaining import background_of, explain
from churn_serving.model.reasons import units
from churn_serving.model.reasons.coalitions import TINY, clipped_log_odds
from churn_serving.model.reasons.players import CODES, GROUPS, SPANS, shapley_weights
from churn_serving.model.reasons.section import NAME, Reasons, read_reasons
from churn_serving.model.scoring import Scorer, make_scorer, read_trees
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from churn_serving.learning.compile import Compiled
    from churn_serving.learning.dataset import Dataset

TOLERANCE: Final = 1e-9
BACKGROUND: Final = 100
"""More than that shap samples itself."""
SINGLE: Final = tuple(name for name in FEATURE_NAMES if name not in CATEGORIES)
"""The fields that are one column: a player of shap's."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A model with its reasons.

    Attributes:
        log_odds: What is explained, of rows.
    """

    reasons: Reasons
    scorer: Scorer
    background: FloatArray

    def log_odds(self, X: FloatArray) -> FloatArray:
        p = self.scorer.score(X)
        if self.reasons.section.scale != "log-odds":
            return clipped_log_odds(p)
        log_odds: FloatArray = np.log(p / (1 - p))
        return log_odds


def explained(compiled: Compiled, background: FloatArray) -> Explained:
    scorer = make_scorer(compiled.model, compiled.arrays, len(COLUMN_NAMES))
    made = explain(compiled.model, compiled.arrays, scorer.score, background)
    arrays = {**compiled.arrays, **made.arrays, "golden/X": verification_matrix(64)}
    sections = {NAME: made.section.model_dump(mode="json")}
    reasons = read_reasons(sections, arrays, compiled.model, scorer)
    assert reasons is not None
    return Explained(reasons, scorer, made.arrays.get("reasons/background", background))


def _of_estimator(estimator: Any) -> Callable[[Dataset, Path], Compiled]:
    return lambda data, _: compile_model(estimator.fit(data.X, data.y))


def _of_fields(estimator: Any, names: tuple[str, ...]) -> Callable[[Dataset, Path], Compiled]:
    """The estimator sees a table of fields, and divides categories into sets."""

    def fit(data: Dataset, _: Path) -> Compiled:
        table = table_of(names, data.X)
        for name in CATEGORIES:
            if name in names:
                table[name] = table[name].astype("category")
        return compile_model(estimator.fit(table, data.y))

    return fit


def _xgboost(data: Dataset, folder: Path, **options: Any) -> Compiled:
    model = xgboost.XGBClassifier(n_estimators=20, n_jobs=1, **options).fit(data.X, data.y)
    model.save_model(folder / "model.json")
    return compile_booster(folder / "model.json")[0]


def _lightgbm(data: Dataset, folder: Path, **options: Any) -> Compiled:
    model = lightgbm.LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1, **options)
    model.fit(data.X, data.y).booster_.save_model(folder / "model.txt")
    return compile_booster(folder / "model.txt")[0]


_BOOSTING: Final[dict[str, Any]] = {"max_iter": 20, "max_leaf_nodes": 8, "early_stopping": False}

EXACT: Final[dict[str, Callable[[Dataset, Path], Compiled]]] = {
    "logistic": _of_estimator(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
    "calibrated logistic": _of_estimator(
        CalibratedClassifierCV(LogisticRegression(max_iter=5000), ensemble=False, cv=2)
    ),
    "boosting": _of_estimator(HistGradientBoostingClassifier(**_BOOSTING)),
    "boosting over sets": _of_fields(
        HistGradientBoostingClassifier(categorical_features="from_dtype", **_BOOSTING),
        FEATURE_NAMES,
    ),
    "calibrated boosting": _of_estimator(
        CalibratedClassifierCV(HistGradientBoostingClassifier(**_BOOSTING), ensemble=False, cv=2)
    ),
    "xgboost": lambda data, folder: _xgboost(data, folder, max_depth=3),
    "lightgbm": lambda data, folder: _lightgbm(data, folder, num_leaves=8),
    "large boosting over sets": _of_fields(
        HistGradientBoostingClassifier(
            **{**_BOOSTING, "max_leaf_nodes": 31}, categorical_features="from_dtype"
        ),
        FEATURE_NAMES,
    ),
    "large xgboost": lambda data, folder: _xgboost(data, folder, max_depth=6),
    "large lightgbm": lambda data, folder: _lightgbm(data, folder, num_leaves=31),
}
SLOW: Final[dict[str, Callable[[Dataset, Path], Compiled]]] = {
    "forest": _of_estimator(RandomForestClassifier(5, random_state=0)),
    "isotonic": _of_estimator(
        CalibratedClassifierCV(LogisticRegression(max_iter=5000), method="isotonic", cv=2)
    ),
    "several calibrated": _of_estimator(
        CalibratedClassifierCV(HistGradientBoostingClassifier(**_BOOSTING), cv=2)
    ),
}


@pytest.fixture(scope="module")
def background(telco: Dataset) -> FloatArray:
    return telco.X[::7][:BACKGROUND]


@pytest.fixture(scope="module", params=list(EXACT))
def exact(
    request: pytest.FixtureRequest,
    telco: Dataset,
    background: FloatArray,
    tmp_path_factory: pytest.TempPathFactory,
) -> Explained:
    folder = tmp_path_factory.mktemp("model")
    return explained(EXACT[request.param](telco, folder), background)


@pytest.fixture(scope="module", params=list(SLOW))
def slow(
    request: pytest.FixtureRequest,
    telco: Dataset,
    background: FloatArray,
    tmp_path_factory: pytest.TempPathFactory,
) -> Explained:
    folder = tmp_path_factory.mktemp("model")
    return explained(SLOW[request.param](telco, folder), background)


def worth(model: Explained, x: FloatArray, coalition: tuple[int, ...]) -> float:
    """Return what the model says on average of the background with these fields of the customer."""
    rows = model.background.copy()
    for field in coalition:
        first, end = SPANS[field]
        rows[:, first:end] = x[first:end]
    return float(model.log_odds(rows).mean())


def by_definition(model: Explained, x: FloatArray) -> list[float]:
    """Return the Shapley values as Shapley wrote them down: a sum over all coalitions."""
    n = len(FEATURE_NAMES)
    worths = {
        coalition: worth(model, x, coalition)
        for size in range(n + 1)
        for coalition in combinations(range(n), size)
    }
    values = []
    for field in range(n):
        value = 0.0
        for coalition, without in worths.items():
            if field in coalition:
                continue
            share = factorial(len(coalition)) * factorial(n - len(coalition) - 1) / factorial(n)
            value += share * (worths[tuple(sorted((*coalition, field)))] - without)
        values.append(value)
    return values


def test_impacts_are_those_of_the_definition(exact: Explained, telco: Dataset) -> None:
    for x in telco.X[5::2900]:
        expected = by_definition(exact, x)
        np.testing.assert_allclose(exact.reasons.row(tuple(x.tolist())), expected, atol=1e-11)
    assert exact.reasons.exact
    assert not exact.reasons.slow


def test_impacts_of_a_slow_kind_are_those_of_the_definition(
    slow: Explained, telco: Dataset
) -> None:
    x = telco.X[5]
    expected = by_definition(slow, x)
    np.testing.assert_allclose(slow.reasons.row(tuple(x.tolist())), expected, atol=1e-11)
    assert slow.reasons.slow
    assert not slow.reasons.exact


CUSTOMERS: Final = st.builds(
    lambda **fields: {
        **fields,
        "total_charges": max(fields["total_charges"], fields["monthly_charges"]),
    },
    **{
        name: (
            st.sampled_from(CATEGORIES[name])
            if name in CATEGORIES
            else st.booleans()
            if field.annotation is bool
            else st.integers(*map(int, bounds_of(Customer)[name]))
            if field.annotation is int
            else st.floats(*bounds_of(Customer)[name])
        )
        for name, field in Customer.model_fields.items()
    },
).map(Customer.model_validate)


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(customer=CUSTOMERS)
def test_baseline_and_impacts_add_up_to_the_probability(
    exact: Explained, customer: Customer
) -> None:
    row = customer_row(customer)
    impacts = exact.reasons.row(row)
    z = exact.reasons.baseline + sum(impacts)
    assert abs(1 / (1 + np.exp(-z)) - exact.scorer.score_row(row)) <= TOLERANCE
    np.testing.assert_allclose(
        exact.reasons.matrix(feature_matrix([row])), [impacts], rtol=0, atol=1e-12
    )


def test_of_a_slow_kind_they_add_up_to_the_clipped_probability(
    slow: Explained, telco: Dataset
) -> None:
    X = telco.X[:20]
    z = slow.reasons.matrix(X).sum(axis=1) + slow.reasons.baseline
    p = slow.scorer.score(X)
    expected = p if slow.reasons.section.scale == "log-odds" else np.clip(p, TINY, 1 - TINY)
    np.testing.assert_allclose(1 / (1 + np.exp(-z)), expected, rtol=0, atol=TOLERANCE)


def test_many_customers_get_the_same_impacts_as_each_of_them(
    exact: Explained, telco: Dataset
) -> None:
    X = telco.X[:300]
    rows = [exact.reasons.row(tuple(row)) for row in X.tolist()]
    np.testing.assert_allclose(exact.reasons.matrix(X), rows, rtol=0, atol=1e-12)
    assert exact.reasons.matrix(X[:0]).shape == (0, len(FEATURE_NAMES))


def test_nobody_to_explain_gets_no_impacts(slow: Explained) -> None:
    nobody = np.empty((0, len(COLUMN_NAMES)))
    assert slow.reasons.matrix(nobody).shape == (0, len(FEATURE_NAMES))


def test_the_mean_of_the_backgrounds_impacts_is_nothing(exact: Explained) -> None:
    mean = exact.reasons.matrix(exact.background).mean(axis=0)
    np.testing.assert_allclose(mean.sum(), 0, atol=1e-11)


@pytest.mark.parametrize("kind", ["lightgbm", "large lightgbm"])
def test_a_missing_number_goes_where_the_trees_send_it(
    kind: str, telco: Dataset, tmp_path: Path
) -> None:
    holes = np.random.default_rng(1).random(telco.X.shape) < 0.1
    data = replace(telco, X=np.where(holes, np.nan, telco.X))
    model = explained(EXACT[kind](data, tmp_path), telco.X[:BACKGROUND])
    X = telco.X[:100].copy()
    X[np.random.default_rng(0).random(X.shape) < 0.3] = np.nan
    z = model.reasons.matrix(X).sum(axis=1) + model.reasons.baseline
    np.testing.assert_allclose(model.log_odds(X), z, rtol=0, atol=1e-9)


def test_trees_that_are_too_large_to_tabulate_are_explained_by_the_definition(
    telco: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = EXACT["xgboost"](telco, tmp_path)
    tabulated = explained(compiled, telco.X[:20])
    for limit in ("_MAX_BYTES", "_MAX_LEAVES"):
        with monkeypatch.context() as patched:
            patched.setattr(units, "_MAX_TESTS", 1)
            patched.setattr(units, limit, 50)
            model = explained(compiled, telco.X[:20])
        assert model.reasons.slow
        # Nothing is clipped, and here the few customers are the whole background.
        assert model.reasons.section.scale == "log-odds"
        X = telco.X[:5]
        np.testing.assert_allclose(model.reasons.matrix(X), tabulated.reasons.matrix(X), atol=1e-11)


def test_small_trees_are_tabulated_and_large_ones_leaf_by_leaf(
    telco: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = EXACT["lightgbm"](telco, tmp_path)
    forest, sets = read_trees(compiled.arrays, 0)
    by_tree = units.patterns_of(forest, sets)
    assert len(by_tree.bits) == len(forest.roots)
    ours = explained(compiled, telco.X[:50]).reasons.matrix(telco.X)
    monkeypatch.setattr(units, "_MAX_TESTS", 1)
    by_leaf = units.patterns_of(forest, sets)
    assert len(by_leaf.bits) == (forest.column < 0).sum()
    again = explained(compiled, telco.X[:50]).reasons.matrix(telco.X)
    np.testing.assert_allclose(again, ours, rtol=0, atol=1e-12)


def test_trees_that_are_single_leaves_move_nothing(telco: Dataset) -> None:
    stumps = HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=5000)
    model = explained(compile_model(stumps.fit(telco.X, telco.y)), telco.X[:50])
    assert model.reasons.row(tuple(telco.X[0].tolist())) == [0.0] * len(FEATURE_NAMES)


def test_linear_impacts_are_those_of_shap(telco: Dataset, background: FloatArray) -> None:
    shap = pytest.importorskip("shap")
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scaler, logistic = pipeline.fit(telco.X, telco.y)
    masker = shap.maskers.Independent(scaler.transform(background), max_samples=BACKGROUND)
    columns = shap.LinearExplainer(logistic, masker).shap_values(scaler.transform(telco.X[:50]))
    expected = np.add.reduceat(columns, [first for first, _ in SPANS], axis=1)
    ours = explained(compile_model(pipeline), background).reasons
    np.testing.assert_allclose(ours.matrix(telco.X[:50]), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("depth", [3, 7])
@pytest.mark.parametrize("library", ["scikit-learn", "xgboost", "lightgbm"])
def test_impacts_of_trees_are_those_of_shap(
    library: str, depth: int, telco: Dataset, background: FloatArray, tmp_path: Path
) -> None:
    """On a model whose fields are a column each, since shap's players are columns.

    In whole dollars, since shap compares numbers with thresholds in single precision.
    """
    shap = pytest.importorskip("shap")
    X, background = np.round(telco.X), np.round(background)
    table = table_of(SINGLE, X).astype(float)
    if library == "scikit-learn":
        model: Any = HistGradientBoostingClassifier(
            max_iter=20, max_depth=depth, max_leaf_nodes=None, early_stopping=False
        ).fit(table, telco.y)
        compiled = compile_model(model)
    elif library == "xgboost":
        model = xgboost.XGBClassifier(n_estimators=20, max_depth=depth, n_jobs=1).fit(
            table, telco.y
        )
        model.save_model(tmp_path / "model.json")
        compiled = compile_booster(tmp_path / "model.json")[0]
    else:
        model = lightgbm.LGBMClassifier(n_estimators=20, num_leaves=2**depth, n_jobs=1, verbose=-1)
        model.fit(table, telco.y).booster_.save_model(tmp_path / "model.txt")
        compiled = compile_booster(tmp_path / "model.txt")[0]
    theirs = shap.TreeExplainer(
        model, table_of(SINGLE, background).astype(float), feature_perturbation="interventional"
    ).shap_values(table[:50], check_additivity=False)
    ours = explained(compiled, background).reasons.matrix(X[:50])
    fields = [FEATURE_NAMES.index(name) for name in SINGLE]
    # shap's sums of them are in single precision.
    np.testing.assert_allclose(ours[:, fields], theirs, rtol=0, atol=1e-6)
    others = [FEATURE_NAMES.index(name) for name in CATEGORIES]
    assert not ours[:, others].any()


def test_shapley_weights_share_what_a_coalition_is_worth() -> None:
    weights = shapley_weights(3)
    # What everybody wins together is shared equally, and what only the first one wins is theirs.
    np.testing.assert_allclose((np.arange(8) == 7) @ weights, [1 / 3] * 3)
    np.testing.assert_allclose((np.arange(8) & 1) @ weights, [1, 0, 0], atol=1e-15)
    assert shapley_weights(0).shape == (1, 0)


def test_every_field_is_in_one_group_and_two_move_together() -> None:
    assert sorted(field for group in GROUPS for field in group) == list(range(len(FEATURE_NAMES)))
    assert len(GROUPS) == len(CODES) == len(FEATURE_NAMES) - 1
    assert CODES[0] == "tenure_months_and_total_charges"
    assert set(CODES[1:]) == {*FEATURE_NAMES} - {"tenure_months", "total_charges"}


def test_the_background_is_a_row_of_each_of_a_thousand_customers_drawn_by_lot() -> None:
    X = np.arange(6000.0).reshape(-1, 1)
    of_row = np.arange(6000) // 3
    drawn = background_of(X, of_row, seed=1)
    assert drawn.shape == (1000, 1)
    assert len(np.unique(drawn // 3)) == 1000
    np.testing.assert_array_equal(drawn, background_of(X, of_row, seed=1))
    assert (drawn != background_of(X, of_row, seed=2)).any()
    assert sorted(background_of(X[:3], np.arange(3), seed=0).ravel()) == [0, 1, 2]


def test_the_section_names_the_checksum_of_the_background(telco: Dataset) -> None:
    compiled = compile_model(LogisticRegression(max_iter=5000).fit(telco.X, telco.y))
    model = explained(compiled, telco.X)
    described = model.reasons.section.background
    used = telco.X[:1000].astype("<f8")
    assert described.sha256 == hashlib.sha256(used.tobytes()).hexdigest()
    assert described.rows == described.used == 1000
    assert described.means["tenure_months"] == pytest.approx(used[:, 0].mean())
    assert all(sum(shares) == pytest.approx(1) for shares in described.shares.values())
