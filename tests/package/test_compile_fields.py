"""What is compiled answers like an estimator that was trained on a table, by names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier

from churn_serving.features.columns import CATEGORIES, COLUMN_NAMES, FEATURE_NAMES
from churn_serving.learning.compile import compile_model
from churn_serving.learning.compiling.inputs import table_of
from tests.package.test_compile import (
    FIT,
    boosted,
    fitted,
    forest,
    furthest,
    gradient,
    logistic,
    rows_for,
)

if TYPE_CHECKING:
    from churn_serving.learning.dataset import Dataset

NUMBERS = ["tenure_months", "monthly_charges", "total_charges", "num_products"]
FLAGS = ["has_phone_service", "has_internet"]
WORDS = list(CATEGORIES)
CONTINUOUS = [COLUMN_NAMES.index(name) for name in ("monthly_charges", "total_charges")]
SHUFFLED = [COLUMN_NAMES[k] for k in (5, 2, 0, 8, 6, 1)]


def encoded(encoder: Any, scaler: Any = None, **options: Any) -> ColumnTransformer:
    """Return a transformer of a customer's fields."""
    return make_column_transformer(
        (scaler or StandardScaler(), NUMBERS), (encoder, WORDS), **options
    )


FIELDS = {
    "logistic": make_pipeline(encoded(OneHotEncoder()), logistic()),
    "logistic-first-dropped": make_pipeline(encoded(OneHotEncoder(drop="first")), logistic()),
    "logistic-ordinal": make_pipeline(encoded(OrdinalEncoder()), logistic()),
    "logistic-flags-encoded": make_pipeline(
        make_column_transformer(
            (MinMaxScaler(), NUMBERS), (OneHotEncoder(drop="if_binary"), [*WORDS, *FLAGS])
        ),
        logistic(),
    ),
    "logistic-scaled-again": make_pipeline(
        encoded(OneHotEncoder(sparse_output=False), remainder="passthrough"),
        MinMaxScaler(),
        logistic(),
    ),
    "forest": make_pipeline(encoded(OneHotEncoder(), remainder="passthrough"), forest()),
    "forest-ordinal": make_pipeline(encoded(OrdinalEncoder(), MinMaxScaler(clip=True)), forest()),
    "forest-known-order": make_pipeline(
        encoded(
            OrdinalEncoder(
                categories=[["two-year", "month-to-month", "one-year"], list("ab")],
                handle_unknown="use_encoded_value",
                unknown_value=-5,
            )
        ),
        forest(),
    ),
    "forest-sparse-scaled": make_pipeline(
        ColumnTransformer(
            [
                ("words", make_pipeline(OneHotEncoder(), StandardScaler(with_mean=False)), WORDS),
                ("number", OneHotEncoder(handle_unknown="ignore"), ["num_products"]),
            ],
            remainder=MinMaxScaler(),
            sparse_threshold=1,
        ),
        StandardScaler(with_mean=False),
        forest(),
    ),
    "trees-numbers-encoded": make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["num_products", *FLAGS]),
            (OrdinalEncoder(), ["contract_type"]),
            (
                OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
                ["tenure_months"],
            ),
            (
                OneHotEncoder(max_categories=4, handle_unknown="infrequent_if_exist"),
                ["monthly_charges"],
            ),
            remainder="drop",
        ),
        DecisionTreeClassifier(random_state=0),
    ),
    "gradient-infrequent": make_pipeline(
        make_column_transformer(
            (
                OneHotEncoder(min_frequency=300, handle_unknown="infrequent_if_exist"),
                ["num_products", "payment_method"],
            ),
            ("drop", FLAGS),
            remainder=make_pipeline(
                "passthrough", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
            ),
        ),
        gradient(),
    ),
    "histogram-ordinal": make_pipeline(
        encoded(OrdinalEncoder(), "passthrough", remainder="passthrough"),
        boosted(categorical_features=[4, 5], min_samples_leaf=5, max_leaf_nodes=60),
    ),
    "histogram-numbers": make_pipeline(
        encoded(OrdinalEncoder(), "passthrough"),
        boosted(categorical_features=[0, 3], min_samples_leaf=5, max_leaf_nodes=60),
    ),
    "nested": Pipeline(
        [
            ("same", FunctionTransformer()),
            ("inner", Pipeline([("encode", encoded(OneHotEncoder())), ("none", None)])),
            ("calibrated", CalibratedClassifierCV(forest(), cv=2)),
        ]
    ),
    "calibrated-around": CalibratedClassifierCV(
        make_pipeline(encoded(OneHotEncoder()), logistic()), method="isotonic", cv=2
    ),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_it_answers_like_an_estimator_of_a_customers_fields(kind: str, telco: Dataset) -> None:
    estimator = fitted(FIELDS[kind], telco, list(FEATURE_NAMES))
    compiled = compile_model(estimator)
    assert furthest(estimator, compiled, rows_for(compiled, telco, CONTINUOUS)) <= 1e-9


def test_pandas_categories_are_known_by_their_words(telco: Dataset) -> None:
    table = table_of(FEATURE_NAMES, telco.X[FIT]).astype(dict.fromkeys(WORDS, "category"))
    table["payment_method"] = table["payment_method"].cat.remove_categories("mailed")
    estimator = boosted(max_leaf_nodes=60, min_samples_leaf=3).fit(table, telco.y[FIT])
    assert estimator.is_categorical_.sum() == 2
    compiled = compile_model(estimator)
    assert "0/set_start" in compiled.arrays
    assert furthest(estimator, compiled, rows_for(compiled, telco, CONTINUOUS)) <= 1e-9


@pytest.mark.parametrize("names", [list(COLUMN_NAMES), list(COLUMN_NAMES[::-1]), SHUFFLED])
@pytest.mark.parametrize("classifier", [forest(), boosted()])
def test_columns_are_told_by_their_names(classifier: Any, names: list[str], telco: Dataset) -> None:
    estimator = fitted(make_pipeline(StandardScaler(), classifier), telco, names)
    compiled = compile_model(estimator)
    assert furthest(estimator, compiled, rows_for(compiled, telco)) <= 1e-9


def test_fields_are_told_by_their_names(telco: Dataset) -> None:
    names = ["payment_method", "total_charges", "has_internet"]
    transformer = make_column_transformer(
        (OneHotEncoder(), ["payment_method"]), remainder="passthrough"
    )
    estimator = fitted(make_pipeline(transformer, forest()), telco, names)
    compiled = compile_model(estimator)
    assert furthest(estimator, compiled, rows_for(compiled, telco, CONTINUOUS)) <= 1e-9


def test_columns_of_the_bare_matrix_are_told_by_their_numbers(telco: Dataset) -> None:
    transformer = ColumnTransformer(
        [("a", StandardScaler(), [2, 0]), ("b", OneHotEncoder(handle_unknown="ignore"), [3, 4])],
        remainder="passthrough",
    )
    estimator = fitted(make_pipeline(transformer, forest()), telco)
    compiled = compile_model(estimator)
    X = rows_for(compiled, telco, [0, 1, 2])
    assert furthest(estimator, compiled, X) <= 1e-9


def test_random_thresholds_divide_categories_in_few_ways(telco: Dataset) -> None:
    transformer = encoded(OrdinalEncoder(), remainder="passthrough")
    trees = ExtraTreesClassifier(10, random_state=0)
    estimator = fitted(make_pipeline(transformer, trees), telco, list(FEATURE_NAMES))
    compiled = compile_model(estimator)
    assert len(compiled.arrays["0/set_start"]) <= 3
    assert furthest(estimator, compiled, rows_for(compiled, telco, CONTINUOUS)) <= 1e-9


def test_flags_may_have_been_zeros_and_ones(telco: Dataset) -> None:
    flags = dict.fromkeys(FLAGS, int)
    table = table_of(FEATURE_NAMES, telco.X[FIT]).astype(flags)
    transformer = encoded(OneHotEncoder(), remainder=OneHotEncoder())
    estimator = make_pipeline(transformer, forest()).fit(table, telco.y[FIT])
    compiled = compile_model(estimator)
    assert furthest(estimator, compiled, rows_for(compiled, telco, CONTINUOUS)) <= 1e-9


def test_numbers_and_flags_may_be_pandas_categories(telco: Dataset) -> None:
    categories = dict.fromkeys([*WORDS, *FLAGS, "num_products"], "category")
    table = table_of(FEATURE_NAMES, telco.X[FIT]).astype(categories)
    estimator = boosted(max_leaf_nodes=60, min_samples_leaf=3).fit(table, telco.y[FIT])
    compiled = compile_model(estimator)
    assert furthest(estimator, compiled, rows_for(compiled, telco, CONTINUOUS)) <= 1e-9
