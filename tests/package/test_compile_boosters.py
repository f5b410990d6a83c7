"""What is compiled reaches the leaves that XGBoost and LightGBM themselves reach."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from churn_serving.errors import UnsupportedEstimatorError
from churn_serving.features.columns import CATEGORIES, COLUMN_NAMES, CONTRACT_TYPES
from churn_serving.learning.compile import compile_booster
from churn_serving.learning.compiling.inputs import TAKEN, table_of
from tests.package.test_compile import FIT, evaluate, reached, rows_for, served
from tests.package.test_compile_refusals import one_sentence

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.dataset import Dataset

xgb = pytest.importorskip("xgboost")
lgb = pytest.importorskip("lightgbm")

NUM_PRODUCTS = COLUMN_NAMES.index("num_products")
TYPES = ["c" if index == NUM_PRODUCTS else "q" for index in range(len(COLUMN_NAMES))]
INPUTS: list[dict[str, Any]] = [
    {"field": "contract_type", "codes": dict(zip(CONTRACT_TYPES, (3, 0, 5), strict=True))},
    {"column": "total_charges", "mean": 2283.3, "scale": 2266.77},
    {"column": "monthly_charges", "factor": 0.013, "offset": -0.7},
    {"column": "tenure_months"},
    {
        "field": "payment_method",
        "codes": {name: code for code, name in enumerate(CATEGORIES["payment_method"])},
    },
]

XGBOOST: dict[str, dict[str, Any]] = {
    "plain": {},
    "dart": {"booster": "dart", "rate_drop": 0.5, "seed": 1},
    "forest": {"num_parallel_tree": 4, "subsample": 0.5, "learning_rate": 1},
    "reg:logistic": {"objective": "reg:logistic"},
    "lossguide": {"grow_policy": "lossguide", "tree_method": "hist", "max_leaves": 20},
    "base_score": {"base_score": 0.2, "scale_pos_weight": 3},
}
LIGHTGBM: dict[str, dict[str, Any]] = {
    "plain": {},
    "dart": {"boosting": "dart", "drop_rate": 0.5},
    "rf": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "sigmoid": {"sigmoid": 2.5, "is_unbalance": True},
    "large": {"num_leaves": 100, "min_data_in_leaf": 2},
    "stumps": {"num_leaves": 2},
}


def holes(X: FloatArray) -> FloatArray:
    X = X.copy()
    X[np.random.default_rng(3).random(X.shape) < 0.1] = np.nan
    return X


def train_xgboost(X: Any, y: Any, *, types: Any = None, names: Any = None, **options: Any) -> Any:
    options = {"objective": "binary:logistic", "max_depth": 5, "max_cat_to_onehot": 2, **options}
    data = xgb.DMatrix(X, y, feature_types=types, feature_names=names, enable_categorical=True)
    return xgb.train({"nthread": 1, **options}, data, 8)


def train_lightgbm(
    X: Any, y: Any, *, categories: Any = (), names: Any = "auto", **options: Any
) -> Any:
    options = {"objective": "binary", "num_leaves": 15, "cat_smooth": 1, "verbosity": -1, **options}
    data = lgb.Dataset(X, y, categorical_feature=list(categories), feature_name=names)
    return lgb.train(
        {"num_threads": 1, "verbosity": -1, "min_data_per_group": 5, **options}, data, 8
    )


def same_leaves(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Return whether each tree's leaves divide the rows alike, however they are numbered."""
    for our, their in zip(ours.T, theirs.reshape(len(ours), -1).T, strict=True):
        pairs = len(np.unique(np.stack([our, their.astype(int)]), axis=1).T)
        if not len(np.unique(our)) == len(np.unique(their)) == pairs:
            return False
    return True


def check(path: Path, telco: Dataset, tolerance: float, preprocess: Path | None = None) -> Any:
    """Compare what is compiled of a file with the library, and return what is compiled."""
    compiled, probabilities, booster = compile_booster(path, preprocess)
    # There are no customers between two categories.
    columns = [0, 1, 2] if preprocess else [k for k in range(len(TYPES)) if k != NUM_PRODUCTS]
    X = rows_for(compiled, telco, columns, missing=preprocess is None)
    expected = probabilities(X)
    for scored in (evaluate(compiled, X), served(compiled, X)):
        assert np.abs(scored - expected).max() <= tolerance
    seen = X
    if preprocess is not None:
        seen = np.column_stack(
            [_seen(X, one) for one in json.loads(preprocess.read_text())["inputs"]]
        )
    own = {name.removeprefix("0/"): array for name, array in compiled.arrays.items()}
    native = booster.native
    if booster.library == "xgboost":
        data = xgb.DMatrix(
            seen, feature_names=native.feature_names, feature_types=native.feature_types
        )
        theirs = native.predict(data, pred_leaf=True)
    else:
        theirs = native.predict(seen, pred_leaf=True)
    assert same_leaves(reached(own, X), theirs)
    return compiled


def _seen(X: FloatArray, one: dict[str, Any]) -> FloatArray:
    """Return what a booster sees by one line of the file, as its format says."""
    if "field" in one:
        code: FloatArray = sum(
            X[:, COLUMN_NAMES.index(f"{one['field']}={value}")] * code
            for value, code in one["codes"].items()
        )
        return code
    x: FloatArray = X[:, COLUMN_NAMES.index(one["column"])]
    seen: FloatArray = (x - one.get("mean", 0)) / one.get("scale", 1) * one.get("factor", 1)
    seen += one.get("offset", 0)
    return seen


@pytest.mark.parametrize("types", [None, TYPES], ids=["numbers", "categories"])
@pytest.mark.parametrize("kind", XGBOOST)
def test_xgboost_reaches_the_same_leaves(
    kind: str, types: Any, telco: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / ("model.ubj" if types else "model.json")
    model = train_xgboost(telco.X[FIT], telco.y[FIT], types=types, **XGBOOST[kind])
    model.save_model(path)
    compiled = check(path, telco, 5e-7)
    assert compiled.steps == ("XGBoost",)
    assert compiled.model.precision == "single"


@pytest.mark.parametrize("categories", [(), (NUM_PRODUCTS,)], ids=["numbers", "categories"])
@pytest.mark.parametrize("kind", LIGHTGBM)
def test_lightgbm_reaches_the_same_leaves(
    kind: str, categories: Any, telco: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "model.txt"
    model = train_lightgbm(telco.X[FIT], telco.y[FIT], categories=categories, **LIGHTGBM[kind])
    model.save_model(path)
    compiled = check(path, telco, 1e-9)
    assert compiled.steps == ("LightGBM",)
    assert compiled.model.precision == "double"


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_missing_values_go_where_the_booster_sends_them(
    library: str, telco: Dataset, tmp_path: Path
) -> None:
    train = train_xgboost if library == "xgboost" else train_lightgbm
    path = tmp_path / ("model.ubj" if library == "xgboost" else "model.txt")
    train(holes(telco.X[FIT]), telco.y[FIT]).save_model(path)
    check(path, telco, 5e-7 if library == "xgboost" else 1e-9)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("by_category", [False, True])
def test_a_file_says_what_the_booster_sees(
    *, by_category: bool, library: str, telco: Dataset, tmp_path: Path
) -> None:
    preprocess = tmp_path / "preprocess.json"
    preprocess.write_text(json.dumps({"inputs": INPUTS}))
    X = np.column_stack([_seen(telco.X[FIT], one) for one in INPUTS])
    if library == "xgboost":
        path = tmp_path / "model.json"
        types = list("cqqqc") if by_category else None
        train_xgboost(X, telco.y[FIT], types=types, names=list("abcde")).save_model(path)
    else:
        path = tmp_path / "model.txt"
        categories = (0, 4) if by_category else ()
        train_lightgbm(X, telco.y[FIT], categories=categories).save_model(path)
    check(path, telco, 5e-7 if library == "xgboost" else 1e-9, preprocess)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_columns_are_told_by_the_boosters_feature_names(
    library: str, telco: Dataset, tmp_path: Path
) -> None:
    names = [COLUMN_NAMES[k] for k in (8, 2, 0, 5)]
    X = telco.X[FIT][:, [8, 2, 0, 5]]
    train = train_xgboost if library == "xgboost" else train_lightgbm
    path = tmp_path / ("model.ubj" if library == "xgboost" else "model.txt")
    train(X, telco.y[FIT], names=names).save_model(path)
    compiled, probabilities, booster = compile_booster(path)
    rows = rows_for(compiled, telco)
    assert np.abs(evaluate(compiled, rows) - probabilities(rows)).max() <= 5e-7
    chosen = rows[:, [8, 2, 0, 5]]
    data = xgb.DMatrix(chosen, feature_names=names) if library == "xgboost" else chosen
    np.testing.assert_array_equal(probabilities(rows), booster.native.predict(data))


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_booster_that_is_saved_again_is_the_same(
    library: str, telco: Dataset, tmp_path: Path
) -> None:
    suffix = "ubj" if library == "xgboost" else "txt"
    train = train_xgboost if library == "xgboost" else train_lightgbm
    first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
    train(telco.X[FIT], telco.y[FIT]).save_model(first)
    compiled, _, booster = compile_booster(first)
    second.write_bytes(booster.content)
    again, _, _ = compile_booster(second)
    assert again.model == compiled.model
    for name, array in compiled.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def refusal(path: Path, preprocess: Path | None = None) -> str:
    with pytest.raises(UnsupportedEstimatorError) as error:
        compile_booster(path, preprocess)
    return one_sentence(error)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"objective": "multi:softprob", "num_class": 2}, "objective=multi:softprob"),
        ({"objective": "reg:squarederror"}, "objective=reg:squarederror"),
        ({"objective": "binary:logitraw"}, "objective=binary:logitraw"),
        ({"booster": "gblinear", "max_depth": None}, "booster=gblinear"),
    ],
)
def test_other_models_of_xgboost_are_refused(
    options: Any, reason: str, telco: Dataset, tmp_path: Path
) -> None:
    options = {"objective": "binary:logistic", "verbosity": 0, **options}
    options = {name: value for name, value in options.items() if value is not None}
    data = xgb.DMatrix(telco.X[:300], telco.y[:300])
    xgb.train(options, data, 2).save_model(tmp_path / "model.json")
    text = refusal(tmp_path / "model.json")
    assert reason in text
    assert TAKEN in text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"objective": "multiclass", "num_class": 2}, "objective=multiclass"),
        ({"objective": "regression"}, "objective=regression"),
        ({"linear_tree": True}, "linear_tree"),
        ({"zero_as_missing": True}, "zero_as_missing"),
    ],
)
def test_other_models_of_lightgbm_are_refused(
    options: Any, reason: str, telco: Dataset, tmp_path: Path
) -> None:
    train_lightgbm(telco.X[FIT], telco.y[FIT], **options).save_model(tmp_path / "model.txt")
    text = refusal(tmp_path / "model.txt")
    assert reason in text
    assert TAKEN in text


@pytest.mark.parametrize("name", ["model.json", "model.ubj", "model.txt", "model.pkl"])
def test_what_is_no_model_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name != "model.pkl":
        assert "There is no model file" in refusal(path)
    path.write_bytes(b'{"learner": 3}')
    text = refusal(path)
    assert name in text
    assert TAKEN in text


@pytest.mark.parametrize(("name", "package"), [("m.ubj", "xgboost-cpu"), ("m.txt", "lightgbm")])
def test_a_missing_library_is_a_sentence_that_says_what_to_install(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).touch()
    library = "lightgbm" if name == "m.txt" else "xgboost"
    monkeypatch.setitem(sys.modules, library, None)
    assert f"pip install {package}" in refusal(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "Input should be"),
        ("{", "Invalid JSON"),
        ({"inputs": []}, "at least 1 item"),
        ({"inputs": [{"column": "tenure"}]}, "there is no column 'tenure'"),
        ({"inputs": [{"column": "tenure_months", "scale": 0}]}, "at 'inputs.0.scale'"),
        ({"inputs": [{"column": "tenure_months", "factor": -1}]}, "greater than 0"),
        ({"inputs": [{"column": "tenure_months", "std": 1}]}, "not permitted at 'inputs.0.std'"),
        ({"inputs": [{"column": "tenure_months", "mean": 1, "factor": 2}]}, "an input is a column"),
        ({"inputs": [{"mean": 1}]}, "an input is a column"),
        ({"inputs": [{"field": "contract_type", "codes": {"one-year": 1}}]}, "a code for each"),
        ({"inputs": [{"field": "has_internet", "codes": {"no": 1}}]}, "a code for each"),
        ({"inputs": [{"column": "tenure_months"}]}, "on 13 features, where --preprocess lists 1"),
    ],
)
def test_a_wrong_preprocess_file_is_refused_where_it_is_wrong(
    content: Any, reason: str, telco: Dataset, tmp_path: Path
) -> None:
    path, preprocess = tmp_path / "model.json", tmp_path / "preprocess.json"
    train_xgboost(telco.X[:300], telco.y[:300]).save_model(path)
    preprocess.write_text(content if isinstance(content, str) else json.dumps(content))
    assert reason in refusal(path, preprocess)


def test_a_preprocess_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "model.json", tmp_path / "preprocess.json")


def test_a_booster_of_unknown_features_is_refused(telco: Dataset, tmp_path: Path) -> None:
    names = [f"f_{index}" for index in range(len(COLUMN_NAMES))]
    train_xgboost(telco.X[:300], telco.y[:300], names=names).save_model(tmp_path / "model.json")
    assert "a column 'f_0'" in refusal(tmp_path / "model.json")


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_codes_of_pandas_categories_have_to_be_said(
    library: str, telco: Dataset, tmp_path: Path
) -> None:
    table = table_of(COLUMN_NAMES, telco.X).astype({"num_products": int})
    table = table.astype({"num_products": "category"})
    path = tmp_path / ("model.ubj" if library == "xgboost" else "model.txt")
    if library == "xgboost":
        train_xgboost(table, telco.y).save_model(path)
    else:
        train_lightgbm(table, telco.y, categories=["num_products"]).save_model(path)
    assert "which code stands for which value" in refusal(path)
    preprocess = tmp_path / "preprocess.json"
    # The categories are 1 to 9, their codes 0 to 8.
    inputs: list[dict[str, Any]] = [{"column": name} for name in COLUMN_NAMES]
    inputs[NUM_PRODUCTS]["offset"] = -1
    preprocess.write_text(json.dumps({"inputs": inputs}))
    compiled, probabilities, booster = compile_booster(path, preprocess)
    seen = xgb.DMatrix(table, enable_categorical=True) if library == "xgboost" else table
    expected = booster.native.predict(seen)
    np.testing.assert_array_equal(probabilities(telco.X), expected)
    assert np.abs(evaluate(compiled, telco.X) - expected).max() <= 5e-7
