"""What cannot be compiled is refused in one sentence that says why, and what is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from churn_serving.errors import UnsupportedEstimatorError
from churn_serving.features.columns import FEATURE_NAMES
from churn_serving.learning.compile import compile_model, reference_probabilities
from churn_serving.learning.compiling import forest
from churn_serving.learning.compiling.inputs import TAKEN, table_of

if TYPE_CHECKING:
    from churn_serving.learning.dataset import Dataset

TREE = DecisionTreeClassifier(max_depth=4, random_state=0)
LINEAR = LogisticRegression(max_iter=5000)
KINDS = {
    "GaussianNB": GaussianNB(),
    "SVC gives no probabilities": SVC(),
    "LinearRegression": LinearRegression(),
    "VotingClassifier": VotingClassifier([("tree", TREE)]),
    "RobustScaler": make_pipeline(RobustScaler(), TREE),
    "a function of its own": make_pipeline(FunctionTransformer(np.log1p), TREE),
    "'tenure_months' as categories, or clipped, is not linear": make_pipeline(
        MinMaxScaler(clip=True), StandardScaler(), LINEAR
    ),
    "init=RandomForestClassifier": GradientBoostingClassifier(
        n_estimators=2, init=RandomForestClassifier(2)
    ),
    "The classifier GaussianNB": CalibratedClassifierCV(GaussianNB(), cv=2),
    "The classifier CalibratedClassifierCV": CalibratedClassifierCV(
        CalibratedClassifierCV(TREE, cv=2), cv=2
    ),
    "more than 64 calibrated models": CalibratedClassifierCV(
        DecisionTreeClassifier(max_depth=1), cv=65
    ),
    "transformer_weights": make_pipeline(
        make_column_transformer((StandardScaler(), [0])).set_params(
            transformer_weights={"standardscaler": 2.0}
        ),
        TREE,
    ),
}
FIELDS = {
    "OneHotEncoder does not know all values of 'num_products'": make_column_transformer(
        (OneHotEncoder(), ["num_products"])
    ),
    "OrdinalEncoder does not know all numbers": make_column_transformer(
        (OrdinalEncoder(), ["total_charges"])
    ),
    "OneHotEncoder with a dtype": make_column_transformer(
        (OneHotEncoder(dtype=np.float32), ["contract_type"])
    ),
    "'monthly_charges' can be any number": make_column_transformer(
        (make_pipeline(StandardScaler(), OrdinalEncoder()), ["monthly_charges"])
    ),
}


def one_sentence(error: pytest.ExceptionInfo[UnsupportedEstimatorError]) -> str:
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert ". " not in text
    return text


def refusal(estimator: Any) -> str:
    with pytest.raises(UnsupportedEstimatorError) as error:
        compile_model(estimator)
    return one_sentence(error)


@pytest.mark.parametrize("reason", KINDS)
def test_other_estimators_are_refused(reason: str, telco: Dataset) -> None:
    text = refusal(clone(KINDS[reason]).fit(telco.X[:600], telco.y[:600]))
    assert reason in text
    assert TAKEN in text


@pytest.mark.parametrize("reason", FIELDS)
def test_other_encoders_are_refused(reason: str, telco: Dataset) -> None:
    table = table_of(FEATURE_NAMES, telco.X[:600])
    text = refusal(clone(make_pipeline(FIELDS[reason], TREE)).fit(table, telco.y[:600]))
    assert reason in text
    assert TAKEN in text


@pytest.mark.skipif(
    "temperature" not in (CalibratedClassifierCV.__doc__ or ""), reason="needs scikit-learn 1.8"
)
def test_a_temperature_of_probabilities_is_refused(telco: Dataset) -> None:
    calibrated = CalibratedClassifierCV(TREE, method="temperature", cv=2)
    text = refusal(calibrated.fit(telco.X[:600], telco.y[:600]))
    assert "method='temperature' around DecisionTreeClassifier" in text
    assert TAKEN in text


def test_numbers_one_hot_are_not_linear(telco: Dataset) -> None:
    encoder = OneHotEncoder(handle_unknown="ignore")
    estimator = make_pipeline(make_column_transformer((encoder, ["num_products"])), clone(LINEAR))
    text = refusal(estimator.fit(table_of(FEATURE_NAMES, telco.X), telco.y))
    assert "LogisticRegression on 'num_products'" in text
    assert TAKEN in text


def test_scaled_numbers_are_no_categories(telco: Dataset) -> None:
    boosting = HistGradientBoostingClassifier(max_iter=2, categorical_features=[0])
    X = np.round(telco.X[:, 1:2], -1)
    names = ["monthly_charges"]
    estimator = make_pipeline(StandardScaler(), boosting).fit(
        table_of(names, np.tile(X, (1, 13))), telco.y
    )
    assert "'monthly_charges' can be any number" in refusal(estimator)


def test_a_category_divided_in_too_many_ways_is_refused(
    telco: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forest, "_MAX_PAIRS", 10)
    boosting = HistGradientBoostingClassifier(max_iter=5, categorical_features=[3])
    text = refusal(boosting.fit(telco.X, telco.y))
    assert "divide a category in this many ways" in text
    assert TAKEN in text


def test_trees_too_deep_to_be_served_are_refused(
    telco: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forest, "MAX_DEPTH", 5)
    assert compile_model(DecisionTreeClassifier(max_depth=5).fit(telco.X, telco.y))
    text = refusal(DecisionTreeClassifier(max_depth=6).fit(telco.X, telco.y))
    assert "deeper than 5" in text
    assert TAKEN in text


@pytest.mark.parametrize("labels", [["no", "yes"], [1, 2], [0, 1, 2], [0]])
def test_other_classes_than_0_and_1_are_refused(labels: list[Any], telco: Dataset) -> None:
    y = np.array(labels)[np.arange(600) % len(labels)]
    text = refusal(clone(TREE).fit(telco.X[:600], y))
    assert f"the classes {', '.join(map(str, labels))}, where 0 (stays) and 1 (leaves)" in text
    assert TAKEN in text


@pytest.mark.parametrize(
    "estimator",
    [TREE, make_pipeline(StandardScaler(), TREE), CalibratedClassifierCV(TREE), SVC(), 3, None],
)
def test_what_is_not_fitted_is_refused(estimator: Any) -> None:
    text = refusal(estimator)
    assert "not fitted" in text or "gives no probabilities" in text
    assert TAKEN in text


@pytest.mark.parametrize("compiling", [True, False])
def test_other_columns_are_refused_with_those_that_are_expected(
    *, compiling: bool, telco: Dataset
) -> None:
    renamed = table_of(FEATURE_NAMES[:3], telco.X).rename(columns={"total_charges": "total"})
    for estimator, reason in (
        (clone(TREE).fit(telco.X[:, :12], telco.y), "on 12 columns without names"),
        (clone(TREE).fit(renamed, telco.y), "on a column 'total'"),
    ):
        with pytest.raises(UnsupportedEstimatorError) as error:
            compile_model(estimator) if compiling else reference_probabilities(estimator, telco.X)
        text = one_sentence(error)
        assert reason in text
        assert "contract_type=one-year" in text
        assert "num_products" in text


def test_a_step_that_was_never_fitted_is_refused(telco: Dataset) -> None:
    half = make_pipeline(StandardScaler(), clone(TREE).fit(telco.X, telco.y))
    with pytest.raises(UnsupportedEstimatorError, match="StandardScaler is not fitted"):
        compile_model(half)


class _Raising:
    classes_ = np.array([0, 1])

    def predict_proba(self, _: Any) -> Any:
        raise RuntimeError("no such thing\nas a probability")


class _Short(_Raising):
    def predict_proba(self, _: Any) -> Any:
        return np.zeros(3)


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [(_Raising(), r"\(no such thing\)"), (_Short(), r"shape \(3,\).*5 customers")],
)
def test_an_estimator_that_cannot_score_is_one_sentence(
    estimator: Any, reason: str, telco: Dataset
) -> None:
    with pytest.raises(UnsupportedEstimatorError, match=reason):
        reference_probabilities(estimator, telco.X[:5])
