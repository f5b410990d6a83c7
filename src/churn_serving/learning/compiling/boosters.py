"""Model files of XGBoost and LightGBM: read by their own libraries, no pickle among them.

What a booster sees of a customer is said by its feature names, which are then columns of the
feature matrix; by nothing, then it sees all of them in order; or by a JSON file, see
``churn_serving.learning.compiling.booster_inputs``.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from churn_serving.errors import UnsupportedEstimatorError
from churn_serving.learning.compiling.booster_inputs import read_inputs
from churn_serving.learning.compiling.forest import Arithmetic, Nodes, Sides, compile_nodes
from churn_serving.learning.compiling.inputs import Frame, names_of, unsupported
from churn_serving.learning.compiling.sums import TreeSum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from churn_serving.features.columns import FloatArray

__all__ = ["SUFFIXES", "Booster", "read_booster"]

SUFFIXES: Final = (".json", ".txt", ".ubj")
"""How the names of the model files end that the libraries write."""

_ZERO: Final = float(np.float32(1e-35))
"""LightGBM takes what is closer to zero for zero."""

_XGBOOST: Final = Arithmetic(lambda values: values.astype(np.float32), strict=True)
_LIGHTGBM: Final = Arithmetic(lambda values: np.where(np.abs(values) <= _ZERO, 0.0, values))


@dataclass(frozen=True, slots=True)
class Booster:
    """A model file that was read.

    Attributes:
        total: Its margin; the probability is the logistic function of it.
        probabilities: The library's own churn probabilities of unscaled feature rows.
        library: The name of its Python package.
        native: The library's own object.
    """

    total: TreeSum
    probabilities: Callable[[FloatArray], FloatArray]
    library: Literal["lightgbm", "xgboost"]
    native: Any

    @property
    def name(self) -> str:
        """The library's name, for people."""
        return "XGBoost" if self.library == "xgboost" else "LightGBM"

    @property
    def version(self) -> str:
        """The library's version, whatever its wheel is called."""
        version: str = importlib.import_module(self.library).__version__
        return version

    @property
    def content(self) -> bytes:
        """The model file, as the library itself writes it."""
        if self.library == "xgboost":
            return bytes(self.native.save_raw("ubj"))
        text: str = self.native.model_to_string()
        return text.encode()


def read_booster(path: Path, preprocess: Path | None = None) -> Booster:
    """Read a model file.

    Args:
        path: A model file of XGBoost (.json, .ubj) or LightGBM (.txt).
        preprocess: What the booster sees of a customer, as ``booster_inputs`` describes.

    Raises:
        UnsupportedEstimatorError: It is no such file, holds another kind of model, or sees what is
            not known of a customer; or the library is not installed.
    """
    frame = None if preprocess is None else read_inputs(preprocess)
    if path.suffix not in SUFFIXES:
        raise unsupported(f"{path.name} does not end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UnsupportedEstimatorError(f"There is no model file {path}.")
    return (_read_lightgbm if path.suffix == ".txt" else _read_xgboost)(path, frame)


def _frame(frame: Frame | None, names: Sequence[str], count: int, *, has_categories: bool) -> Frame:
    """Return what the booster sees, by the file, else by its feature names, else everything."""
    if frame is None:
        if has_categories:
            # A code is a place in the list of categories: 0 may stand for 1.
            raise UnsupportedEstimatorError(
                "The booster was trained on categories of pandas, where --preprocess has to say "
                "which code stands for which value."
            )
        unnamed = not names or all(name == f"Column_{k}" for k, name in enumerate(names))
        frame = Frame.named(names_of(None if unnamed else names, count))
    if len(frame.columns) != count:
        raise UnsupportedEstimatorError(
            f"The booster was trained on {count} features, where --preprocess lists "
            f"{len(frame.columns)}."
        )
    return frame


def _library(name: str, distribution: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnsupportedEstimatorError(
            f"Reading this model file needs a library that is not installed: run 'pip install "
            f"{distribution}'."
        ) from error


def _load(load: Callable[[], Any], path: Path, library: str) -> Any:  # noqa: ANN401 - the library's object
    try:
        return load()
    # A file of any kind may be passed; the library's errors are of its own classes.
    except Exception as error:
        raise unsupported(f"{path.name} is no model file that {library} can read") from error


def _read_xgboost(path: Path, frame: Frame | None) -> Booster:
    xgboost = _library("xgboost", "xgboost-cpu")
    booster = _load(lambda: xgboost.Booster(model_file=path), path, "XGBoost")
    learner = json.loads(booster.save_raw("json"))["learner"]
    objective = learner["objective"]["name"]
    parameters = learner["learner_model_param"]
    boosting = learner["gradient_booster"]
    kind = boosting["name"]
    if objective not in ("binary:logistic", "reg:logistic") or kind not in ("gbtree", "dart"):
        raise unsupported(
            f"XGBoost with objective={objective} and booster={kind} is not taken (binary:logistic "
            "or reg:logistic, and gbtree or dart, are)"
        )
    model = (boosting["gbtree"] if kind == "dart" else boosting)["model"]
    trees = model["trees"]
    if int(parameters["num_target"]) > 1 or not trees:
        raise unsupported("XGBoost with several targets, or without trees, is not taken")
    weights = boosting["weight_drop"] if kind == "dart" else [1.0] * len(trees)
    names = learner.get("feature_names") or []
    # Since version 3.1.
    categories = model.get("cats", {}).get("enc", ())
    has_categories = any(one.get("values") for one in categories)
    count = int(parameters["num_feature"])
    frame = _frame(frame, names, count, has_categories=has_categories)
    nodes = _xgboost_nodes(trees, weights)
    start = np.float32(float(parameters["base_score"].strip("[]")))
    baseline = -np.log(np.float32(1) / start - np.float32(1))  # in float32, as XGBoost does
    types = learner.get("feature_types") or None

    def probabilities(X: FloatArray) -> FloatArray:
        seen = xgboost.DMatrix(frame.matrix(X), feature_names=names or None, feature_types=types)
        return np.asarray(booster.predict(seen), dtype=np.float64)

    arrays = compile_nodes(nodes, frame.columns, _XGBOOST)
    return Booster(TreeSum(arrays, float(baseline), 1.0), probabilities, "xgboost", booster)


def _xgboost_nodes(trees: list[dict[str, Any]], weights: list[float]) -> Nodes:
    sizes = [len(tree["left_children"]) for tree in trees]
    roots = np.cumsum([0, *sizes[:-1]])
    offset = np.repeat(roots, sizes)

    def joined(name: str, dtype: type) -> NDArray[Any]:
        return np.concatenate([np.asarray(tree[name], dtype) for tree in trees])

    left = joined("left_children", np.intp)
    leaf = left < 0
    condition = joined("split_conditions", np.float32)  # of a leaf: its value
    missing_left = joined("default_left", np.bool_)
    sides: dict[int, Sides] = {}
    for root, tree in zip(roots.tolist(), trees, strict=True):
        for node, start, size in zip(
            tree.get("categories_nodes", ()),
            tree.get("categories_segments", ()),
            tree.get("categories_sizes", ()),
            strict=True,
        ):
            codes = tree["categories"][start : start + size]
            sides[root + node] = Sides(
                dict.fromkeys(map(int, codes), False),
                other=True,
                missing=bool(missing_left[root + node]),
            )
    shrink = np.repeat(np.asarray(weights, np.float32), sizes)
    return Nodes(
        roots=roots,
        feature=np.where(leaf, -1, joined("split_indices", np.intp)),
        threshold=condition,
        left=left + offset,
        right=joined("right_children", np.intp) + offset,
        value=(condition * shrink).astype(np.float64),
        missing_left=missing_left,
        sides=sides,
    )


def _read_lightgbm(path: Path, frame: Frame | None) -> Booster:
    lightgbm = _library("lightgbm", "lightgbm")
    booster = _load(lambda: lightgbm.Booster(model_file=path), path, "LightGBM")
    # What it has read, written again: of as many trees as it predicts with.
    text, *blocks = booster.model_to_string().split("end of trees")[0].split("\nTree=")
    header, trees = _settings(text), [_settings(block) for block in blocks]
    objective, *settings = header.get("objective", "").split(" ")
    if objective != "binary" or header["num_tree_per_iteration"] != "1" or not trees:
        raise unsupported(f"LightGBM with objective={objective or 'none'} is not taken (binary is)")
    if any(tree.get("is_linear", "0") != "0" for tree in trees):
        raise unsupported("LightGBM with linear_tree is not taken")
    steepness = float(dict(setting.split(":") for setting in settings).get("sigmoid", 1))
    frame = _frame(
        frame,
        booster.feature_name(),
        booster.num_feature(),
        has_categories=bool(booster.pandas_categorical),
    )
    nodes = _lightgbm_nodes(trees)
    is_mean = "average_output" in text.splitlines()  # a random forest
    scale = steepness / len(trees) if is_mean else steepness

    def probabilities(X: FloatArray) -> FloatArray:
        return np.asarray(booster.predict(frame.matrix(X)), dtype=np.float64)

    arrays = compile_nodes(nodes, frame.columns, _LIGHTGBM)
    return Booster(TreeSum(arrays, 0.0, scale), probabilities, "lightgbm", booster)


def _settings(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _lightgbm_nodes(trees: list[dict[str, str]]) -> Nodes:
    """Return the nodes: of each tree its splits, then its leaves."""
    inner = [int(tree["num_leaves"]) - 1 for tree in trees]
    sizes = [2 * splits + 1 for splits in inner]
    roots = np.cumsum([0, *sizes[:-1]])

    def joined(name: str, dtype: type, leaf: float = 0) -> NDArray[Any]:
        parts: list[NDArray[Any]] = []
        for tree, splits in zip(trees, inner, strict=True):
            values: NDArray[Any] = (
                np.array(tree[name].split(), dtype) if splits else np.empty(0, dtype)
            )
            parts += [values, np.full(splits + 1, leaf, dtype)]
        return np.concatenate(parts)

    def children(name: str) -> NDArray[np.intp]:
        # A leaf is numbered from -1 downwards, and stands behind the splits here.
        splits = np.repeat(inner, sizes)
        child = joined(name, np.intp)
        indices: NDArray[np.intp] = np.where(child < 0, splits + ~child, child)
        indices += np.repeat(roots, sizes)
        return indices

    decision = joined("decision_type", np.intp)
    threshold = joined("threshold", np.float64)
    feature = joined("split_feature", np.intp, leaf=-1)
    missing_type = decision >> 2 & 3  # 0: none, 1: zero, 2: NaN
    if (missing_type == 1).any():
        raise unsupported("LightGBM with zero_as_missing is not taken")
    # Where the training data had no missing values, one counts as zero.
    missing_left = np.where(missing_type == 0, threshold >= 0, decision & 2 > 0)
    is_categorical = decision & 1 > 0
    missing_left &= ~is_categorical
    tree_of = np.repeat(np.arange(len(trees)), sizes)
    bitsets = [_bitsets(tree) for tree in trees]
    sides = {
        node: Sides(bitsets[tree_of[node]][int(threshold[node])], other=False, missing=False)
        for node in np.flatnonzero(is_categorical).tolist()
    }
    leaves = [np.array(tree["leaf_value"].split(), np.float64) for tree in trees]
    return Nodes(
        roots=roots,
        feature=feature,
        threshold=threshold,
        left=children("left_child"),
        right=children("right_child"),
        value=np.concatenate(
            [part for values in leaves for part in (np.zeros(len(values) - 1), values)]
        ),
        missing_left=missing_left,
        sides=sides,
    )


def _bitsets(tree: dict[str, str]) -> list[dict[int, bool]]:
    """Return the codes that each categorical test of a tree sends to the left."""
    bounds = [int(bound) for bound in tree.get("cat_boundaries", "0").split()]
    words = [int(word) for word in tree.get("cat_threshold", "").split()]
    return [
        {
            32 * place + bit: True
            for place, word in enumerate(words[first:last])
            for bit in range(32)
            if word >> bit & 1
        }
        for first, last in pairwise(bounds)
    ]
