"""Other ways to serve the same registered model; ``CHURN_MODEL_TAG`` says which."""
