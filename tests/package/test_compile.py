"""What is compiled answers like the estimator: also at its thresholds, and next to them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.features.rows import verification_matrix
from churn_serving.learning.compile import compile_model, reference_probabilities
from churn_serving.learning.compiling.forest import FLOAT32, FLOAT64, Arithmetic, raw_thresholds
from churn_serving.learning.compiling.inputs import Numeric, table_of
from churn_serving.model.npz import write_arrays
from churn_serving.model.portable import checked_arrays
from churn_serving.model.scoring import make_scorer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.compile import Compiled
    from churn_serving.learning.dataset import Dataset

ROWS = 10_000
FIT = slice(0, 7000, 5)


def right_children(column: NDArray[np.int16]) -> dict[int, int]:
    """Return the right child of each node, and of each root the next tree's, read in preorder."""
    right: dict[int, int] = {}
    waiting: list[int] = []
    for node in range(1, len(column) + 1):
        if column[node - 1] >= 0:
            waiting.append(node - 1)
        elif waiting:
            right[waiting.pop()] = node
    return right


def reached(arrays: dict[str, NDArray[Any]], X: FloatArray) -> NDArray[np.intp]:
    """Walk every tree, as the specification says; return the leaves, shape ``(n, trees)``."""
    column, number = arrays["column"], arrays["number"]
    missing_left = arrays.get("missing_left", np.zeros(len(column), bool))
    bounds = arrays.get("set_start", np.zeros(1, np.int32))
    for first, last in pairwise(bounds):
        pairs = zip(arrays["set_column"][first:last], arrays["set_value"][first:last], strict=True)
        member = np.any([X[:, c] == v for c, v in pairs], axis=0)
        X = np.column_stack([X, member.astype(float)])
    children = right_children(column)
    right = np.array([children.get(node, -1) for node in range(len(column))])
    leaves = []
    root = 0
    while root < len(column):
        node = np.full(len(X), root)
        while (inner := column[node] >= 0).any():
            x = X[np.arange(len(X)), np.where(inner, column[node], 0)]
            left = np.where(np.isnan(x), missing_left[node], x <= number[node])
            node = np.where(inner, np.where(left, node + 1, right[node]), node)
        leaves.append(node)
        while column[root] >= 0:  # the last leaf of a tree is its rightmost
            root = right[root]
        root += 1
    return np.stack(leaves, axis=1)


def evaluate(compiled: Compiled, X: FloatArray) -> FloatArray:
    """Return the probabilities that the specification gives, slowly and obviously."""
    probabilities = []
    for number, member in enumerate(compiled.model.members):
        prefix = f"{number}/"
        own = {
            k.removeprefix(prefix): a for k, a in compiled.arrays.items() if k.startswith(prefix)
        }
        if member.kind == "linear":
            z = X @ own["weights"] + member.bias
        else:
            z = member.baseline + member.scale * own["number"][reached(own, X)].sum(axis=1)
        if member.link == "isotonic":
            probabilities.append(np.interp(z, own["isotonic_x"], own["isotonic_y"]))
        elif member.link == "logistic":
            probabilities.append(expit(z))
        else:
            probabilities.append(np.clip(z, 0, 1))
    mean: FloatArray = np.mean(probabilities, axis=0)
    return mean


def thresholds_of(compiled: Compiled) -> list[tuple[int, float]]:
    """Return the different pairs of column and threshold of all trees."""
    pairs: set[tuple[int, float]] = set()
    for name, column in compiled.arrays.items():
        if name.endswith("/column"):
            inner = (column >= 0) & (column < len(COLUMN_NAMES))
            number = compiled.arrays[name.replace("column", "number")]
            pairs |= set(zip(column[inner].tolist(), number[inner].tolist(), strict=True))
    return sorted(pair for pair in pairs if abs(pair[1]) < 1e300)


def rows_for(
    compiled: Compiled, telco: Dataset, columns: list[int] | None = None, *, missing: bool = False
) -> FloatArray:
    """Return customers, made-up ones, and ones at each threshold, just below and just above.

    Args:
        compiled: Whose thresholds.
        telco: Real customers.
        columns: Those that may hold any number; None for all.
        missing: Also with missing values.
    """
    random = np.random.default_rng(0)
    rows = [verification_matrix(2000), telco.X[:3000]]
    if missing:
        holes = telco.X[-1000:].copy()
        holes[random.random(holes.shape) < 0.2] = np.nan
        rows.append(holes)
    pairs = thresholds_of(compiled)
    pairs = [(c, t) for c, t in pairs if columns is None or c in columns]
    edges = []
    for place in random.permutation(len(pairs))[:1000]:
        column, threshold = pairs[place]
        single = np.float32(threshold)
        for value in (
            threshold,
            np.nextafter(threshold, -np.inf),
            np.nextafter(threshold, np.inf),
            single,
            np.nextafter(single, np.float32(-np.inf)),
            np.nextafter(single, np.float32(np.inf)),
        ):
            row = telco.X[place % telco.rows].copy()
            row[column] = value
            edges.append(row)
    if edges:
        rows.append(np.array(edges)[: ROWS - sum(map(len, rows))])
    rest = ROWS - sum(map(len, rows))
    return np.concatenate([*rows, verification_matrix(rest, seed=1)])


def fitted(estimator: Any, telco: Dataset, names: list[str] | None = None) -> Any:
    X = telco.X[FIT]
    return estimator.fit(X if names is None else table_of(names, X), telco.y[FIT])


def served(compiled: Compiled, X: FloatArray) -> FloatArray:
    """Return what the service answers, once it has checked the arrays."""
    golden = {"golden/X": np.zeros((256, len(COLUMN_NAMES))), "golden/p": np.zeros(256)}
    content = write_arrays({**compiled.arrays, **golden})
    arrays = checked_arrays(content, compiled.model, len(COLUMN_NAMES))
    return make_scorer(compiled.model, arrays, len(COLUMN_NAMES)).score(X)


def furthest(estimator: Any, compiled: Compiled, X: FloatArray) -> float:
    """Return how far the specification, and the service's own scorer, are from the estimator."""
    expected = reference_probabilities(estimator, X)
    both = np.stack([evaluate(compiled, X), served(compiled, X)])
    return float(np.abs(both - expected).max())


def boosted(**options: Any) -> HistGradientBoostingClassifier:
    settings = {"max_iter": 8, "early_stopping": False, "random_state": 0, **options}
    return HistGradientBoostingClassifier(**settings)


def gradient(**options: Any) -> GradientBoostingClassifier:
    return GradientBoostingClassifier(**{"n_estimators": 10, "random_state": 0, **options})


def forest(**options: Any) -> RandomForestClassifier:
    return RandomForestClassifier(**{"n_estimators": 6, "random_state": 0, **options})


def logistic(**options: Any) -> LogisticRegression:
    return LogisticRegression(max_iter=5000, **options)


SCALED = {
    "logistic": logistic(),
    "tree": DecisionTreeClassifier(max_depth=8, random_state=0),
    "tree-grown-best-first": DecisionTreeClassifier(max_leaf_nodes=40, random_state=0),
    "forest": forest(),
    "forest-small": forest(max_depth=4),
    "extra-trees": ExtraTreesClassifier(6, random_state=0),
    "gradient": gradient(),
    "gradient-exponential": gradient(loss="exponential"),
    "gradient-zero": gradient(init="zero"),
    "gradient-constant": gradient(init=DummyClassifier(strategy="constant", constant=1)),
    "gradient-subsampled": gradient(subsample=0.5, max_features=3, max_leaf_nodes=9),
    "histogram": boosted(),
    "histogram-large": boosted(max_leaf_nodes=200, min_samples_leaf=2),
    "histogram-stumps": boosted(max_leaf_nodes=2),
    "histogram-categories": boosted(categorical_features=[3, 5]),
    "histogram-categories-mask": boosted(categorical_features=[n == 0 for n in range(13)]),
    "sigmoid": CalibratedClassifierCV(forest(), cv=3),
    "sigmoid-linear": CalibratedClassifierCV(logistic(), cv=3),
    "sigmoid-exponential": CalibratedClassifierCV(gradient(loss="exponential"), cv=2),
    "isotonic": CalibratedClassifierCV(boosted(), method="isotonic", cv=3),
    "isotonic-linear": CalibratedClassifierCV(logistic(), method="isotonic", cv=3),
    "isotonic-tree": CalibratedClassifierCV(
        DecisionTreeClassifier(max_depth=5), method="isotonic", cv=2
    ),
    "one-calibration": CalibratedClassifierCV(gradient(), ensemble=False, cv=3),
    "around-a-pipeline": CalibratedClassifierCV(make_pipeline(StandardScaler(), boosted()), cv=2),
}
SCALERS = {
    "plain": None,
    "standard": StandardScaler(),
    "centred": StandardScaler(with_std=False),
    "min-max": MinMaxScaler((-1, 2)),
}


# Logistic regression takes long to converge on what is not scaled.
PAIRS = [
    (kind, scaler)
    for kind in SCALED
    for scaler in SCALERS
    if scaler == "standard"
    or (scaler == "min-max" and kind in ("logistic", "forest", "histogram", "gradient"))
    or (scaler == "plain" and "linear" not in kind and kind != "logistic")
    or (scaler == "centred" and kind in ("extra-trees", "histogram"))
]


@pytest.mark.parametrize(("kind", "scaler"), PAIRS)
def test_it_answers_like_the_estimator_behind_a_scaler(
    kind: str, scaler: str, telco: Dataset
) -> None:
    steps = [SCALED[kind]] if SCALERS[scaler] is None else [SCALERS[scaler], SCALED[kind]]
    estimator = fitted(make_pipeline(*steps), telco)
    compiled = compile_model(estimator)
    X = rows_for(compiled, telco)
    assert X.shape == (ROWS, len(COLUMN_NAMES))
    assert furthest(estimator, compiled, X) <= 1e-9


@pytest.mark.parametrize("seen", ["complete", "with holes"])
@pytest.mark.parametrize(
    "classifier",
    [
        boosted(),
        boosted(categorical_features=[3], max_leaf_nodes=50, min_samples_leaf=3),
        forest(),
        ExtraTreesClassifier(6, random_state=0),
        DecisionTreeClassifier(random_state=0),
        CalibratedClassifierCV(forest(), cv=2),
    ],
)
def test_missing_values_go_where_the_estimator_sends_them(
    classifier: Any, seen: str, telco: Dataset
) -> None:
    X = telco.X[FIT].copy()
    if seen == "with holes":
        X[np.random.default_rng(1).random(X.shape) < 0.1] = np.nan
    estimator = make_pipeline(StandardScaler(), classifier).fit(X, telco.y[FIT])
    compiled = compile_model(estimator)
    X = rows_for(compiled, telco, missing=True)
    assert np.isnan(X).any()
    assert furthest(estimator, compiled, X) <= 1e-9


def test_a_frozen_estimator_is_what_it_was(telco: Dataset) -> None:
    scaler = FrozenEstimator(StandardScaler().fit(telco.X))
    inner = FrozenEstimator(fitted(make_pipeline(scaler, forest()), telco))
    estimator = fitted(CalibratedClassifierCV(inner), telco)
    compiled = compile_model(FrozenEstimator(estimator))
    assert compiled.steps == ("CalibratedClassifierCV", "StandardScaler", "RandomForestClassifier")
    assert len(compiled.model.members) == 1
    assert furthest(FrozenEstimator(estimator), compiled, rows_for(compiled, telco)) <= 1e-9


@pytest.mark.skipif(
    "temperature" not in (CalibratedClassifierCV.__doc__ or ""), reason="needs scikit-learn 1.8"
)
def test_a_temperature_is_folded_into_a_decision_function(telco: Dataset) -> None:
    calibrated = CalibratedClassifierCV(boosted(), method="temperature", cv=2)
    estimator = fitted(calibrated, telco)
    compiled = compile_model(estimator)
    assert furthest(estimator, compiled, rows_for(compiled, telco)) <= 1e-9


def test_classes_may_be_true_and_false(telco: Dataset) -> None:
    estimator = forest().fit(telco.X[FIT], telco.y[FIT].astype(bool))
    compiled = compile_model(estimator)
    assert furthest(estimator, compiled, rows_for(compiled, telco)) <= 1e-9


def test_the_steps_are_named_in_order(telco: Dataset) -> None:
    calibrated = CalibratedClassifierCV(forest(n_estimators=2), cv=2)
    compiled = compile_model(fitted(make_pipeline(StandardScaler(), calibrated), telco))
    assert compiled.steps == ("StandardScaler", "CalibratedClassifierCV", "RandomForestClassifier")


@pytest.mark.parametrize("classifier", [forest(), boosted(), gradient()])
def test_the_row_at_a_threshold_goes_left_and_the_next_number_right(
    classifier: Any, telco: Dataset
) -> None:
    estimator = fitted(make_pipeline(StandardScaler(), classifier), telco)
    compiled = compile_model(estimator)
    different = 0
    for column, threshold in thresholds_of(compiled):
        X = np.repeat(telco.X[::70], 2, axis=0)
        X[::2, column], X[1::2, column] = threshold, np.nextafter(threshold, np.inf)
        p = reference_probabilities(estimator, X)
        different += bool((p[::2] != p[1::2]).any())
    # The customers at hand do not get to every node.
    assert different > len(thresholds_of(compiled)) / 2


@given(
    mean=st.floats(-1e6, 1e6),
    scale=st.floats(1e-300, 1e300),
    thresholds=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5),
    arithmetic=st.sampled_from(
        [FLOAT64, FLOAT32, Arithmetic(lambda x: x.astype(np.float32), strict=True)]
    ),
)
@settings(max_examples=200, deadline=None)
def test_no_double_between_the_threshold_and_the_next_is_forgotten(
    mean: float, scale: float, thresholds: list[float], arithmetic: Arithmetic
) -> None:
    column = Numeric(0, ((np.subtract, mean), (np.divide, scale)))
    sought = np.array(thresholds)
    found = raw_thresholds(column, sought, arithmetic)
    largest = np.finfo(np.float64).max
    assert np.isfinite(found).all()
    at = arithmetic.left(column.of(found), sought)
    assert (at | (found == -largest)).all()
    with np.errstate(over="ignore"):
        above = np.nextafter(found, np.inf)
    assert not arithmetic.left(column.of(above), sought)[found < largest].any()
