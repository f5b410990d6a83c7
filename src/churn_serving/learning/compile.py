"""Compile a fitted estimator, with its preprocessing, into arrays that numpy alone can run.

The arrays are those of ``churn_serving.model.portable``. All that stands between an unscaled row of
features and the estimator is folded in: scalers and encoders into weights and thresholds, a
calibration into the link. What a number was rounded to on its way (the forests cast to float32) is
in the thresholds, so that a customer reaches the leaf that scikit-learn itself finds.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
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
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from churn_serving.errors import UnsupportedEstimatorError
from churn_serving.learning.compiling.boosters import read_booster
from churn_serving.learning.compiling.forest import FLOAT32, FLOAT64, Nodes, Sides, compile_nodes
from churn_serving.learning.compiling.inputs import Frame, names_of, table_of, unsupported
from churn_serving.learning.compiling.preprocessing import encode, transform
from churn_serving.learning.compiling.sums import LinearSum, Member, TreeSum, linear_sum, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.compiling.boosters import Booster
    from churn_serving.learning.compiling.inputs import Estimator
    from churn_serving.model.portable import Members

__all__ = ["Compiled", "compile_booster", "compile_model", "reference_probabilities"]

_CLASSES: Final = (0, 1)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A model in the portable form.

    Attributes:
        model: What the manifest says of it.
        arrays: By their names in the file.
        steps: What it was made of, for people: the names of the classes.
    """

    model: Members
    arrays: dict[str, NDArray[Any]]
    steps: tuple[str, ...]


def compile_model(estimator: Estimator) -> Compiled:
    """Return the portable form of a fitted classifier or Pipeline.

    Raises:
        UnsupportedEstimatorError: It is none of those that are taken.
    """
    _check_classes(estimator)
    steps: list[str] = []
    members = _members(estimator, Frame.named(_names(estimator)), steps)
    return Compiled(*stored(members), tuple(steps))


def compile_booster(
    path: Path, preprocess: Path | None = None
) -> tuple[Compiled, Callable[[FloatArray], FloatArray], Booster]:
    """Return the portable form of a model file, what it says itself, and the model.

    Args:
        path: A model file of XGBoost (.json, .ubj) or LightGBM (.txt).
        preprocess: A JSON file that says what the booster sees of a customer, in the form that
            ``churn_serving.learning.compiling.booster_inputs`` describes. Without it, it sees the
            columns of its feature names, or all of ``COLUMN_NAMES`` in order.

    Returns:
        The portable form; a function from unscaled feature rows to the library's own
        probabilities; and the model, to be saved again.

    Raises:
        UnsupportedEstimatorError: It is no such file or another kind of model; or the library that
            reads it is not installed.
    """
    booster = read_booster(path, preprocess)
    precision: Final = "single" if booster.library == "xgboost" else "double"
    model, arrays = stored([Member(booster.total, "logistic")], precision)
    return Compiled(model, arrays, (booster.name,)), booster.probabilities, booster


def reference_probabilities(estimator: Estimator, X: FloatArray) -> FloatArray:
    """Return the estimator's own churn probabilities, shape ``(n,)``.

    Args:
        estimator: A fitted classifier or Pipeline.
        X: Unscaled feature rows, shape ``(n, columns)``. The estimator gets them as the table it
            was trained on: a customer's fields, named columns of the matrix, or the bare matrix.

    Raises:
        UnsupportedEstimatorError: It was trained on something else, or gives no probabilities.
    """
    _check_classes(estimator)
    names = _names(estimator)
    table = X if names is None else table_of(names, X)
    try:
        with warnings.catch_warnings():
            # An encoder meets a value that it does not know.
            warnings.simplefilter("ignore", UserWarning)
            probabilities = np.asarray(estimator.predict_proba(table), dtype=np.float64)
    # An estimator of any kind may be passed, and one of no known kind can raise anything.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise UnsupportedEstimatorError(
            f"The {type(estimator).__name__} gives no probabilities of customers ({reason})."
        ) from error
    if probabilities.shape != (len(X), len(_CLASSES)):
        raise UnsupportedEstimatorError(
            f"The {type(estimator).__name__} gives an array of shape {probabilities.shape} as the "
            f"probabilities of {len(X)} customers."
        )
    return probabilities[:, 1]


def _names(estimator: Estimator) -> tuple[str, ...] | None:
    return names_of(_known(estimator, "feature_names_in_"), _known(estimator, "n_features_in_"))


def _known(estimator: Estimator, attribute: str) -> Any:  # noqa: ANN401 - names or a number
    """Return what the first step that knows it knows of the estimator's input."""
    if isinstance(estimator, Pipeline):
        found = (_known(step, attribute) for _, step in estimator.steps)
        return next((value for value in found if value is not None), None)
    if isinstance(estimator, FrozenEstimator):
        return _known(estimator.estimator, attribute)
    if isinstance(estimator, CalibratedClassifierCV):
        calibrated = getattr(estimator, "calibrated_classifiers_", ())
        return _known(calibrated[0].estimator, attribute) if calibrated else None
    return getattr(estimator, attribute, None)


def _check_classes(estimator: Estimator) -> None:
    name = type(estimator).__name__
    if not hasattr(estimator, "predict_proba"):
        raise unsupported(f"{name} gives no probabilities")
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise unsupported(f"The {name} is not fitted")
    if tuple(np.ravel(np.asarray(classes, dtype=object)).tolist()) != _CLASSES:
        shown = ", ".join(str(label)[:20] for label in np.ravel(np.asarray(classes, object))[:5])
        raise unsupported(
            f"The {name} was trained on the classes {shown}, where 0 (stays) and 1 (leaves) are "
            "expected"
        )


def _members(estimator: Estimator, frame: Frame, steps: list[str]) -> list[Member]:
    """Return what the probability is the mean of; add the names of the steps to ``steps``."""
    estimator, frame = _unwrapped(estimator, frame, steps)
    steps.append(type(estimator).__name__)
    if type(estimator) is not CalibratedClassifierCV:
        _check_classes(estimator)
        total = _sum(estimator, frame)
        if _is_margin(estimator):
            return [Member(total.affine(_steepness(estimator), 0.0), "logistic")]
        return [Member(total, "identity")]
    _check_classes(estimator)
    members: list[Member] = []
    for number, pair in enumerate(estimator.calibrated_classifiers_):
        base, seen = _unwrapped(pair.estimator, frame, steps if number == 0 else [])
        if number == 0:
            steps.append(type(base).__name__)
        _check_classes(base)
        members.append(_calibrated(_sum(base, seen), base, pair.calibrators[0], pair.method))
    return members


def _unwrapped(
    estimator: Estimator,
    frame: Frame,
    steps: list[str],
) -> tuple[Any, Frame]:
    """Return the classifier at the end of Pipelines, and the columns that it sees."""
    while True:
        if type(estimator) is FrozenEstimator:
            estimator = estimator.estimator
        elif type(estimator) is Pipeline:
            *before, (_, last) = estimator.steps
            for _, step in before:
                if step not in (None, "passthrough"):
                    inner = step.estimator if type(step) is FrozenEstimator else step
                    steps.append(type(inner).__name__)
                frame = transform(step, frame)
            estimator = last
        else:
            return estimator, frame


def _calibrated(
    total: LinearSum | TreeSum, base: Estimator, calibrator: Estimator, method: str
) -> Member:
    if method == "sigmoid":
        return Member(total.affine(-float(calibrator.a_), -float(calibrator.b_)), "logistic")
    if method == "isotonic":
        x = np.asarray(calibrator.X_thresholds_, np.float64)
        y = np.clip(np.asarray(calibrator.y_thresholds_, np.float64), 0, 1)
        return Member(total, "isotonic", (x, y))
    if method == "temperature" and _is_margin(base):
        # The two classes' logits are -z and z: their softmax is a logistic function of 2z.
        return Member(total.affine(2 * float(calibrator.beta_), 0.0), "logistic")
    raise unsupported(
        f"CalibratedClassifierCV with method='{method}' around {type(base).__name__} is not taken"
    )


def _is_margin(estimator: Estimator) -> bool:
    """Return whether a calibration sees a decision function; else it sees a probability."""
    return hasattr(estimator, "decision_function")


def _steepness(estimator: Estimator) -> float:
    """Return ``k`` where the probability is ``1 / (1 + exp(-k * decision_function))``."""
    parameters = estimator.get_params(deep=False)
    # Before scikit-learn 1.8; on two classes the softmax of -z and z.
    multinomial = parameters.get("multi_class") == "multinomial"
    return 2.0 if multinomial or parameters.get("loss") == "exponential" else 1.0


def _sum(estimator: Estimator, frame: Frame) -> LinearSum | TreeSum:
    """Return the decision function of a classifier, or its probability if it has none."""
    kind = type(estimator)
    if kind is LogisticRegression:
        coefficients = np.asarray(estimator.coef_[0], np.float64)
        return linear_sum(coefficients, float(estimator.intercept_[0]), frame.columns)
    if kind is DecisionTreeClassifier:
        return _forest([estimator], frame)
    if kind in (RandomForestClassifier, ExtraTreesClassifier):
        return _forest(estimator.estimators_, frame)
    if kind is GradientBoostingClassifier:
        return _gradient_boosting(estimator, frame)
    if kind is HistGradientBoostingClassifier:
        return _histogram_boosting(estimator, frame)
    raise unsupported(f"The classifier {kind.__name__} is not taken")


def _forest(trees: Sequence[DecisionTreeClassifier], frame: Frame) -> TreeSum:
    missing = bool(trees[0].__sklearn_tags__().input_tags.allow_nan)
    arrays = compile_nodes(_tree_nodes(trees, 1, missing=missing), frame.columns, FLOAT32)
    return TreeSum(arrays, baseline=0.0, scale=1 / len(trees))


def _tree_nodes(trees: Sequence[Any], output: int, *, missing: bool) -> Nodes:
    """Return the nodes of scikit-learn's own trees.

    Args:
        trees: The fitted tree estimators.
        output: Which of a leaf's values: the second class of a classifier, all of a regressor.
        missing: They know where missing values go.
    """
    states = [tree.tree_.__getstate__() for tree in trees]
    tables = [state["nodes"] for state in states]
    nodes = np.concatenate(tables)
    sizes = [len(table) for table in tables]
    roots = np.cumsum([0, *sizes[:-1]])
    offset = np.repeat(roots, sizes)
    leaf = nodes["left_child"] < 0
    return Nodes(
        roots=roots,
        feature=np.where(leaf, -1, nodes["feature"]),
        threshold=nodes["threshold"],
        left=nodes["left_child"] + offset,
        right=nodes["right_child"] + offset,
        value=np.concatenate([state["values"][:, 0, output] for state in states]),
        missing_left=nodes["missing_go_to_left"].astype(np.bool_) if missing else None,
    )


def _gradient_boosting(estimator: GradientBoostingClassifier, frame: Frame) -> TreeSum:
    start = estimator.init_
    if isinstance(start, str):  # "zero"
        baseline = 0.0
    elif type(start) is DummyClassifier and start.strategy != "stratified":
        probability = float(start.predict_proba(np.zeros((1, estimator.n_features_in_)))[0, 1])
        tiny = np.finfo(np.float64).eps
        probability = min(max(probability, tiny), 1 - tiny)
        baseline = float(np.log(probability / (1 - probability))) / _steepness(estimator)
    else:
        raise unsupported(
            f"GradientBoostingClassifier with init={type(start).__name__} does not start from a "
            "constant"
        )
    nodes = _tree_nodes(estimator.estimators_[:, 0].tolist(), 0, missing=False)
    arrays = compile_nodes(nodes, frame.columns, FLOAT32)
    return TreeSum(arrays, baseline, float(estimator.learning_rate))


def _histogram_boosting(estimator: HistGradientBoostingClassifier, frame: Frame) -> TreeSum:
    columns = frame.columns
    known: dict[int, list[int]] = {}
    if estimator.is_categorical_ is not None:
        # It has an encoder of its own, behind which the categories stand first.
        encoder = estimator._preprocessor.named_transformers_["encoder"]  # noqa: SLF001 - no public access; the golden rows verify it
        is_categorical = np.asarray(estimator.is_categorical_, np.bool_)
        categories = [column for column, yes in zip(columns, is_categorical, strict=True) if yes]
        numbers = [column for column, yes in zip(columns, is_categorical, strict=True) if not yes]
        columns = (*encode(encoder, tuple(categories)), *numbers)
        binned = estimator._bin_mapper.bin_thresholds_  # noqa: SLF001 - likewise
        known = {k: [int(code) for code in binned[k]] for k in range(len(categories))}
    trees = [iteration[0] for iteration in estimator._predictors]  # noqa: SLF001 - likewise
    tables = [tree.nodes for tree in trees]
    sizes = [len(table) for table in tables]
    nodes = np.concatenate(tables)
    roots = np.cumsum([0, *sizes[:-1]])
    offset = np.repeat(roots, sizes)
    tree_of = np.repeat(np.arange(len(trees)), sizes)
    leaf = nodes["is_leaf"].astype(np.bool_)
    sides: dict[int, Sides] = {}
    for node in np.flatnonzero(nodes["is_categorical"].astype(np.bool_) & ~leaf).tolist():
        bits = trees[tree_of[node]].raw_left_cat_bitsets[nodes["bitset_idx"][node]]
        missing_left = bool(nodes["missing_go_to_left"][node])
        codes = known[int(nodes["feature_idx"][node])]
        to_left = {code: bool(bits[code // 32] >> (code % 32) & 1) for code in codes}
        sides[node] = Sides(to_left, other=missing_left, missing=missing_left)
    known_nodes = Nodes(
        roots=roots,
        feature=np.where(leaf, -1, nodes["feature_idx"].astype(np.intp)),
        threshold=nodes["num_threshold"],
        left=nodes["left"].astype(np.intp) + offset,
        right=nodes["right"].astype(np.intp) + offset,
        value=nodes["value"],
        missing_left=nodes["missing_go_to_left"].astype(np.bool_),
        sides=sides,
    )
    arrays = compile_nodes(known_nodes, columns, FLOAT64)
    return TreeSum(arrays, float(np.asarray(estimator._baseline_prediction).item()), 1.0)  # noqa: SLF001 - likewise
