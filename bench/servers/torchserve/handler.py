"""The handler that TorchServe's worker process runs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from bench.servers.rows import row


class ChurnHandler:
    """Scores the customers of a batch at once."""

    def initialize(self, context: Any) -> None:  # noqa: ANN401 - TorchServe has no types
        """Load the scorer from the model's folder."""
        folder = Path(context.system_properties["model_dir"])
        self._scorer = cloudpickle.loads((folder / "scorer.pkl").read_bytes())
        # The worker logs each batch, to a pipe that the server reads and parses.
        logging.disable(logging.INFO)

    def handle(self, data: list[dict[str, Any]], _: object) -> list[str]:
        """Return the JSON answer to each of the requests, whose JSON is decoded already."""
        rows = [row(request["body"]) for request in data]
        if len(rows) == 1:
            churns = [self._scorer.score_row(rows[0])]
        else:
            churns = self._scorer.score(np.array(rows)).tolist()
        # Dictionaries would be allowed, but are written with indentation, by Python's slow encoder.
        return [json.dumps({"churn_probability": churn}) for churn in churns]
