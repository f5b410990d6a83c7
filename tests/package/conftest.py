"""Real data and real models, made once; and a look into the model store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline, make_pipeline
from threadpoolctl import threadpool_limits

from churn_serving.features.columns import CATEGORIES, COLUMN_NAMES
from churn_serving.learning import training
from churn_serving.learning.candidates import CANDIDATES, CLASSIFIER, SCALER, fit
from churn_serving.learning.compile import compile_model
from churn_serving.learning.dataset import Dataset, _public_file, load_dataset
from churn_serving.learning.registration import save_artifact
from churn_serving.learning.training import TrainingResult, train
from churn_serving.model.scoring import make_scorer
from churn_serving.schema import EXAMPLE, Customer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from churn_serving.features.columns import FloatArray
    from churn_serving.learning.candidates import Candidate
    from churn_serving.model.scoring import Scorer

SLICE_ROWS = 400


@dataclass(frozen=True, slots=True)
class Fitted:
    """An estimator with its scaler, and the rows they were fitted on."""

    estimator: Any
    scaler: Any
    X: FloatArray

    def predict_proba(self, X: FloatArray) -> FloatArray:
        """Return what scikit-learn itself says, shape ``(n,)``."""
        probabilities: FloatArray = self.pipeline.predict_proba(X)[:, 1]
        return probabilities

    @property
    def pipeline(self) -> Pipeline:
        """Both, as they are registered."""
        return make_pipeline(self.scaler, self.estimator)

    @property
    def scorer(self) -> Scorer:
        """What serving makes of them."""
        compiled = compile_model(self.pipeline)
        return make_scorer(compiled.model, compiled.arrays, len(COLUMN_NAMES))


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One run of ``train`` on the public table, with the progress it reported."""

    result: TrainingResult
    progress: list[tuple[str, int, int]]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models only lose time to threads that wait for each other."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="session")
def telco() -> Dataset:
    return load_dataset()


@pytest.fixture(scope="session")
def raw_slice() -> pd.DataFrame:
    """The first customers of the raw public table, every cell as text."""
    table = pd.read_csv(_public_file(), dtype=str, keep_default_na=False)
    return table.head(SLICE_ROWS)


@pytest.fixture
def raw(raw_slice: pd.DataFrame) -> pd.DataFrame:
    """A copy of the raw slice, to spoil."""
    return raw_slice.copy()


@pytest.fixture(scope="session")
def small(telco: Dataset) -> Dataset:
    """The same customers as ``raw``, read."""
    return telco.take(slice(SLICE_ROWS))


@pytest.fixture
def own(small: Dataset) -> pd.DataFrame:
    """The same customers as a table of the schema's fields, in their natural types."""
    columns = dict(zip(COLUMN_NAMES, small.X.T, strict=True))
    table = {
        name: columns[name].astype(field.annotation)
        for name, field in Customer.model_fields.items()
        if name not in CATEGORIES
    } | {
        name: np.array(values)[np.argmax([columns[f"{name}={value}"] for value in values], axis=0)]
        for name, values in CATEGORIES.items()
    }
    return pd.DataFrame(table | {"churn": small.y})


@pytest.fixture(scope="session")
def training_run(telco: Dataset) -> TrainingRun:
    progress: list[tuple[str, int, int]] = []
    result = train(telco, progress=lambda *step: progress.append(step))
    return TrainingRun(result, progress)


@pytest.fixture
def few_bootstrap_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The intervals take most of a small run's time and are not what is tested."""
    monkeypatch.setattr(training, "BOOTSTRAP_SAMPLES", 20)


def _fitted(candidate: Candidate, dataset: Dataset) -> Fitted:
    pipeline = fit(candidate, dataset.X, dataset.y, 42)
    scaler, estimator = pipeline[SCALER], pipeline[CLASSIFIER]
    return Fitted(estimator, scaler, dataset.X)


@pytest.fixture(scope="session")
def logistic(telco: Dataset) -> Fitted:
    return _fitted(CANDIDATES[0], telco)


@pytest.fixture(scope="session")
def boosting(telco: Dataset) -> Fitted:
    return _fitted(CANDIDATES[1], telco)


@pytest.fixture
def model_name() -> str:
    """A name that no other test uses."""
    return f"model-{uuid4().hex}"


@pytest.fixture
def saved(model_name: str, logistic: Fitted) -> str:
    """The tag of a registered model."""
    return save_artifact(
        estimator=logistic.pipeline,
        scaler=logistic.scaler,
        threshold=0.25,
        measured={"seed": 42, "held_out": {"auc": {"value": 0.84, "low": 0.82, "high": 0.86}}},
        name=model_name,
        labels={"team": "retention"},
    )


@pytest.fixture
def store_files() -> Callable[[], dict[str, bytes]]:
    """A look at every file of the model store: two equal looks, an unchanged store."""
    store = Path(os.environ["BENTOML_HOME"], "models")

    def look() -> dict[str, bytes]:
        return {
            str(path.relative_to(store)): path.read_bytes()
            for path in store.rglob("*")
            if path.is_file()
        }

    return look


@pytest.fixture
def customer() -> dict[str, Any]:
    """A valid request body, in every field other than the documentation's where that matters."""
    return {
        **EXAMPLE,
        "tenure_months": 24,
        "monthly_charges": 70.5,
        "total_charges": 1692.0,
        "num_products": 3,
        "has_internet": False,
        "contract_type": "one-year",
        "payment_method": "credit",
    }
