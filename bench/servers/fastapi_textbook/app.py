"""A sync endpoint that makes a DataFrame and calls the model twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

from bench.servers.model import TAG, load_pipeline
from churn_serving.features.columns import COLUMN_NAMES, CONTRACT_TYPES, PAYMENT_METHODS

scaler, model = (step for _, step in load_pipeline().steps)
# As if it had been fitted on a DataFrame, as in the tutorials; otherwise it warns at each call.
scaler.feature_names_in_ = np.array(COLUMN_NAMES, dtype=object)

app = FastAPI()


class CustomerData(BaseModel):
    """The request."""

    tenure_months: int
    monthly_charges: float
    total_charges: float
    num_products: int
    has_phone_service: bool
    has_internet: bool
    contract_type: str
    payment_method: str


class PredictionResponse(BaseModel):
    """The answer."""

    model_config = {"protected_namespaces": ()}

    churn_prediction: int
    churn_probability: float
    model_tag: str


@app.post("/predict", response_model=PredictionResponse)
def predict(customer: CustomerData) -> PredictionResponse:
    """Predict whether one customer will leave."""
    data = customer.model_dump()
    for value in CONTRACT_TYPES:
        data[f"contract_type={value}"] = float(customer.contract_type == value)
    for value in PAYMENT_METHODS:
        data[f"payment_method={value}"] = float(customer.payment_method == value)
    frame = pd.DataFrame([data])[list(COLUMN_NAMES)]
    features = scaler.transform(frame)
    return PredictionResponse(
        churn_prediction=int(model.predict(features)[0]),
        churn_probability=float(model.predict_proba(features)[0][1]),
        model_tag=TAG,
    )
