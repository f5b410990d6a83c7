"""Score a table with MLflow's ``spark_udf``, and print the seconds of each round as JSON.

python job.py PIPELINE FOLDER MODEL CORES ROUNDS

It runs in MLflow's own environment. The model is the scikit-learn pipeline of the bench; the
one-hot columns are made by Spark.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

import joblib
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
from mlflow.models import infer_signature
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as sf


def main(pipeline: str, folder: str, model: str, cores: str, rounds: str) -> None:
    """Save the model, score the table, and write the id and the probability, each round anew."""
    estimator = joblib.load(pipeline)
    names = json.loads(Path(folder, "columns.json").read_text())
    saved = Path(folder, f"{model}-mlflow")
    example = np.zeros((1, len(names)))
    mlflow.sklearn.save_model(
        estimator,
        saved,
        serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        signature=infer_signature(example, estimator.predict_proba(example)),
        pyfunc_predict_fn="predict_proba",
    )
    session = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.ui.enabled", "false")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    score = mlflow.pyfunc.spark_udf(
        session, saved.as_uri(), result_type="array<double>", env_manager="local"
    )
    customers = session.read.parquet(str(Path(folder, "table")))
    features = sf.array(*(column(name, customers.columns) for name in names))
    results = customers.select("customer_id", score(features)[1].alias("churn_probability"))
    seconds = []
    for _ in range(int(rounds)):
        start = perf_counter()
        results.write.mode("overwrite").parquet(str(Path(folder, "scores-of-mlflow")))
        seconds.append(perf_counter() - start)
    json.dump(seconds, sys.stdout)
    session.stop()


def column(name: str, known: list[str]) -> Column:
    """Return a column of the feature matrix: a field, or whether a category has a value."""
    if name in known:
        return sf.col(name).cast("double")
    field, _, value = name.partition("=")
    return (sf.col(field) == value).cast("double")


if __name__ == "__main__":
    main(*sys.argv[1:])
