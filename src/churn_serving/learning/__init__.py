"""How a model is made: a table, and the training on it. Never imported by serving code."""
