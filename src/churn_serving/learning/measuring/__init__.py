"""What is measured of a model, how sure it is, and what stops a model."""
