"""A model of the user's own: read from its file, measured, registered."""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import joblib
from sklearn.exceptions import InconsistentVersionWarning

from churn_serving.cli.terminal import TITLES, note, say, table
from churn_serving.errors import SettingsError, UnsupportedEstimatorError
from churn_serving.learning.compile import (
    compile_booster,
    compile_model,
    reference_probabilities,
)
from churn_serving.learning.compiling.boosters import SUFFIXES
from churn_serving.learning.dataset import load_dataset
from churn_serving.learning.explaining import background_of
from churn_serving.learning.registration import save_artifact, save_booster
from churn_serving.learning.splits import customers_of
from churn_serving.learning.training import measure
from churn_serving.model.artifact import MODEL_NAME, aliases_of
from churn_serving.model.signature import read_private_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.measuring.resampling import Estimate

__all__ = ["Order", "measured_on", "one_warning_of_versions", "register_model", "say_registered"]

DEFAULT_THRESHOLD: Final = 0.5

_SEED: Final = 42
"""Decides which customers of a table are the background."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the command line asks for; see ``churn model register --help``."""

    file: Path
    data: Path | None
    preprocess: Path | None
    threshold: float | None
    name: str
    labels: Mapping[str, str]
    sign_key: Path | None
    allow_pickle: bool


def register_model(order: Order) -> None:
    """Read, measure and register a model.

    Raises:
        SettingsError: The file holds no model, or a key file no key.
        DataError: The table was refused.
        ModelError: The model cannot be compiled, or did not reach the disk as it was written.
        OSError: A file cannot be read, or the store cannot be written.
    """
    if order.sign_key is not None:
        read_private_key(order.sign_key)  # before minutes of measuring
    is_booster = order.file.suffix.lower() in SUFFIXES
    if order.preprocess is not None and not is_booster:
        raise SettingsError(
            "--preprocess is for model files of XGBoost and LightGBM; a joblib file holds a "
            "Pipeline that has its own preprocessing."
        )
    estimator = None if is_booster else _read(order.file)
    threshold = order.threshold
    measured: dict[str, Any] = {}
    background = None
    if order.data is not None:
        probabilities = _booster(order) if is_booster else _estimator(estimator, order)
        threshold, measured, background = measured_on(order.data, probabilities, threshold)
    common: dict[str, Any] = {
        "threshold": DEFAULT_THRESHOLD if threshold is None else threshold,
        "measured": {"registered_from": order.file.name, **measured},
        "name": order.name,
        "labels": order.labels,
        "sign_key": order.sign_key,
        "background": background,
    }
    if is_booster:
        tag = save_booster(path=order.file, preprocess=order.preprocess, **common)
    else:
        tag = save_artifact(estimator=estimator, allow_pickle=order.allow_pickle, **common)
    if threshold is None:
        note(
            f"churn is predicted from a probability of {DEFAULT_THRESHOLD} on, because nothing was "
            "measured; pass a table with --data, or a threshold with --threshold"
        )
    if background is None:
        note(
            "it gives no reasons: a table passed with --data says whom customers are compared with"
        )
    say_registered(tag)


def measured_on(
    path: Path, probabilities: Callable[[FloatArray], FloatArray], threshold: float | None
) -> tuple[float, dict[str, Any], FloatArray]:
    """Measure a model on a table, and print the figures.

    Returns:
        The threshold, the one with the best F1 if none is given; what is kept with the model; and
        customers of the table that a customer is compared with in reasons.
    """
    dataset = load_dataset(path)
    for notice in dataset.notices:
        note(notice)
    chosen, figures, profit = measure(dataset, probabilities(dataset.X), threshold)
    say(f"{dataset.rows:,} customers, {dataset.y.mean():.1%} left: {dataset.source}")
    table(
        ("", "value", "95% interval"),
        (
            (title, f"{figures[name].value:.4f}", _interval(figures[name]))
            for name, title in TITLES.items()
        ),
    )
    if threshold is None:
        say(f"The best F1 on this table is that of a threshold of {chosen:.3f}.")
    note(
        "if the model was trained on customers of this table, these figures flatter it; customers "
        "that it has never seen tell how good it is"
    )
    kept = {
        "data": dataset.provenance,
        "measured": {name: asdict(estimate) for name, estimate in figures.items()},
        "profit": profit,
    }
    return chosen, kept, background_of(dataset.X, customers_of(dataset).of_row, seed=_SEED)


def say_registered(tag: str) -> None:
    """Tell the tag of a new model, and how to serve it."""
    name = tag.partition(":")[0]
    say(f"Registered {tag}.")
    if aliases_of(name).champion is not None:
        say(f"The champion is still served; serve this one with: churn model promote {tag}")
        return
    served = name == MODEL_NAME
    say(f"Serve it with: {'make serve' if served else f'make serve CHURN_MODEL_TAG={tag}'}")


@contextmanager
def one_warning_of_versions() -> Iterator[None]:
    """Tell once, not for each object, that another scikit-learn has written a pickle."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InconsistentVersionWarning)
        yield
    for warning in caught:
        if isinstance(warning.message, InconsistentVersionWarning):
            note(
                f"scikit-learn {warning.message.original_sklearn_version} has written the file, "
                f"and {warning.message.current_sklearn_version} reads it: compare a few "
                "probabilities with those you know"
            )
            return


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.4f} to {estimate.high:.4f}"


def _read(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Unpickle an estimator.

    Raises:
        SettingsError: The file is no pickle, or needs what is not installed.
        OSError: The file cannot be read.
    """
    with path.open("rb"):  # its own sentence, before anything is said about pickles
        note(f"loading {path.name} runs code in it; only load files that you trust")
    try:
        with one_warning_of_versions():
            return joblib.load(path)
    # A file of any kind may be passed, and unpickling one can raise anything.
    except Exception as error:  # noqa: BLE001 - see above
        # Text that is read as a pickle may name modules that nobody ever had.
        if isinstance(error, ModuleNotFoundError) and re.fullmatch(r"[\w.]+", error.name or ""):
            raise SettingsError(
                f"{path.name} needs the module {error.name}, which is not installed here."
            ) from None
        nonsense = isinstance(error, ModuleNotFoundError)
        reason = "" if nonsense else (str(error).splitlines() or [""])[0][:200]
        reason = reason or type(error).__name__
        raise SettingsError(
            f"{path.name} is not a joblib or pickle file of an estimator ({reason}); model files "
            f"of XGBoost and LightGBM end in {', '.join(SUFFIXES)}."
        ) from None


def _estimator(estimator: Any, order: Order) -> Callable[[FloatArray], FloatArray]:  # noqa: ANN401 - likewise
    """Return what scores, if the model can be registered at all: measuring it takes a while."""
    try:
        compile_model(estimator)
    except UnsupportedEstimatorError:
        if not order.allow_pickle:
            raise
    return partial(reference_probabilities, estimator)


def _booster(order: Order) -> Callable[[FloatArray], FloatArray]:
    _, probabilities, _ = compile_booster(order.file, order.preprocess)
    return probabilities
