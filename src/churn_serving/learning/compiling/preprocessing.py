"""Scalers and encoders of scikit-learn, as what they do to each column."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.utils.validation import check_is_fitted

from churn_serving.features.columns import COLUMN_NAMES
from churn_serving.learning.compiling.inputs import Cases, Frame, Numeric, domain_of, unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.compiling.inputs import Column, Estimator, Step

__all__ = ["encode", "transform"]


def transform(transformer: Estimator, frame: Frame) -> Frame:
    """Return the columns behind a fitted transformer.

    Raises:
        UnsupportedEstimatorError: It is none of those that are taken.
    """
    if transformer in (None, "passthrough"):
        return frame
    kind = type(transformer)
    if kind is FrozenEstimator:
        return transform(transformer.estimator, frame)
    if kind is Pipeline:
        for _, step in transformer.steps:
            frame = transform(step, frame)
        return frame
    if kind not in _BY_KIND:
        raise unsupported(f"The preprocessing step {kind.__name__} is not taken")
    try:
        check_is_fitted(transformer)
    except NotFittedError:
        raise unsupported(f"The {kind.__name__} is not fitted") from None
    return _BY_KIND[kind](transformer, frame)


def _same(transformer: FunctionTransformer, frame: Frame) -> Frame:
    if transformer.func is not None:
        raise unsupported("A FunctionTransformer with a function of its own is not taken")
    return frame


def _standard_scaled(scaler: StandardScaler, frame: Frame) -> Frame:
    columns: list[Column] = []
    for number, column in enumerate(frame.columns):
        steps: list[Step] = []
        if scaler.with_mean:
            steps.append((np.subtract, float(scaler.mean_[number])))
        if scaler.with_std:
            scale = float(scaler.scale_[number])
            steps.append((np.multiply, 1 / scale) if frame.sparse else (np.divide, scale))
        columns.append(column.then(steps))
    return Frame(tuple(columns), frame.sparse)


def _min_max_scaled(scaler: MinMaxScaler, frame: Frame) -> Frame:
    low, high = scaler.feature_range
    clip: list[Step] = [(np.maximum, float(low)), (np.minimum, float(high))] if scaler.clip else []
    scales, shifts = scaler.scale_.tolist(), scaler.min_.tolist()
    return Frame(
        tuple(
            column.then([(np.multiply, scale), (np.add, shift), *clip])
            for column, scale, shift in zip(frame.columns, scales, shifts, strict=True)
        )
    )


def _encoded(encoder: OneHotEncoder | OrdinalEncoder, frame: Frame) -> Frame:
    if np.dtype(encoder.dtype) in (np.float16, np.float32):
        # A scaler behind it would calculate in that precision, too.
        raise unsupported(
            f"A {type(encoder).__name__} with a dtype other than float64 is not taken"
        )
    sparse = isinstance(encoder, OneHotEncoder) and encoder.sparse_output
    return Frame(encode(encoder, frame.columns), sparse)


def _side_by_side(transformer: ColumnTransformer, frame: Frame) -> Frame:
    if transformer.transformer_weights:
        raise unsupported("A ColumnTransformer with transformer_weights is not taken")
    columns: list[Column] = []
    for name, part, _ in transformer.transformers_:
        indices = transformer._transformer_to_input_indices[name]  # noqa: SLF001 - no public access; the golden rows verify it
        if len(indices) and not (isinstance(part, str) and part == "drop"):
            chosen = Frame(tuple(frame.columns[index] for index in indices), frame.sparse)
            columns += transform(part, chosen).columns
    return Frame(tuple(columns), sparse=transformer.sparse_output_)


def encode(
    encoder: OneHotEncoder | OrdinalEncoder, columns: tuple[Column, ...]
) -> tuple[Column, ...]:
    """Return the columns behind an encoder: it is asked what it makes of each case."""
    widths = (
        encoder._n_features_outs  # noqa: SLF001 - no public access; the golden rows verify it
        if isinstance(encoder, OneHotEncoder)
        else [1] * len(columns)
    )
    ends = np.cumsum(widths)
    encoded: list[Column] = []
    for number, column in enumerate(columns):
        block = slice(ends[number] - widths[number], ends[number])
        known = encoder.categories_[number].tolist()
        source, unknown = _to_encode(column, known)
        try:
            seen = _ask(encoder, number, source.values)[:, block]
        except (ValueError, TypeError) as error:
            raise unsupported(
                f"The {type(encoder).__name__} does not know all values of "
                f"'{COLUMN_NAMES[source.cases[0][0]].split('=')[0]}', and would fail for the others"
                " (see its handle_unknown)"
            ) from error
        other = None
        if source.other is not None:
            try:
                other = _ask(encoder, number, (unknown,))[0, block]
            except (ValueError, TypeError) as error:
                # A missing value may fail, as it does in the estimator; a number may not.
                if not np.isnan(unknown):
                    raise unsupported(
                        f"The {type(encoder).__name__} does not know all numbers, and would fail "
                        "for the others (see its handle_unknown)"
                    ) from error
        encoded += [
            Cases(
                source.cases,
                tuple(seen[:, k].tolist()),
                None if other is None else float(other[k]),
            )
            for k in range(widths[number])
        ]
    return tuple(encoded)


def _to_encode(column: Column, known: list[Any]) -> tuple[Cases, float]:
    """Return the cases to ask for, and a value that stands for any other."""
    if not isinstance(column, Numeric) or domain_of(column.column) is not None or column.steps:
        return column.enumerated(), np.nan
    numbers = [float(value) for value in known if value == value]  # noqa: PLR0124 - not NaN
    cases = tuple((column.column, value) for value in numbers)
    return Cases(cases, tuple(numbers), other=np.nan), max(numbers, default=0.0) + 1


def _ask(encoder: Estimator, number: int, values: tuple[Any, ...]) -> FloatArray:
    table: dict[str, Any] = {}
    names = getattr(encoder, "feature_names_in_", range(len(encoder.categories_)))
    for index, name in enumerate(names):
        cells = values if index == number else [encoder.categories_[index][0]] * len(values)
        text = isinstance(cells[0], str)
        table[str(name)] = pd.Series(list(cells), dtype=object if text else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names it does not know, unknown categories
        seen = encoder.transform(pd.DataFrame(table))
    seen = seen.toarray() if issparse(seen) else seen
    return np.asarray(seen, dtype=np.float64)


_BY_KIND: Final[dict[type, Callable[[Any, Frame], Frame]]] = {
    ColumnTransformer: _side_by_side,
    FunctionTransformer: _same,
    MinMaxScaler: _min_max_scaled,
    OneHotEncoder: _encoded,
    OrdinalEncoder: _encoded,
    StandardScaler: _standard_scaled,
}
