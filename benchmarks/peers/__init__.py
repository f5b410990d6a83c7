"""Other ways to serve the same registered model; ``CHURN_BUNDLE`` names the file that it is in."""
