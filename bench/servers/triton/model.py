"""The model in Triton's Python backend, whose stub process imports this file.

Rows come and probabilities go by DLPack: the stub's own way to and from numpy is built for numpy 1
and reads wrong sizes from numpy 2.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import triton_python_backend_utils as pb_utils

# The stub renames the DLPack capsules that it takes over, and numpy then complains of each here;
# by default that is printed, which takes longer than everything else.
sys.unraisablehook = bool


class TritonPythonModel:
    """Scores the rows of all requests of a batch at once."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton passes it
        """Load the scorer, which lies beside this file."""
        self._scorer = cloudpickle.loads(Path(__file__).with_name("scorer.pkl").read_bytes())
        self._incoming = _Incoming()

    def execute(
        self, requests: list[pb_utils.InferenceRequest]
    ) -> list[pb_utils.InferenceResponse]:
        """Return the response to each request, in the same order."""
        inputs = [self._incoming.rows(request) for request in requests]
        X = np.concatenate(inputs)
        if len(X) == 1:
            churns = np.array([[self._scorer.score_row(X[0].tolist())]])
        else:
            churns = self._scorer.score(X)[:, None]
        responses, start = [], 0
        for rows in inputs:
            end = start + len(rows)
            capsule = churns[start:end].__dlpack__()
            tensor = pb_utils.Tensor.from_dlpack("churn_probability", capsule)
            responses.append(pb_utils.InferenceResponse([tensor]))
            start = end
        return responses


class _Incoming:
    """The input of a request as numpy takes it.

    The stub's tensors refuse the arguments that numpy passes to ``__dlpack__``; numpy would try
    again without them, which takes longer.
    """

    def rows(self, request: pb_utils.InferenceRequest) -> np.ndarray:
        """Return the rows of the request's only input."""
        (self._tensor,) = request.inputs()
        return np.from_dlpack(self)

    def __dlpack__(self, **_: object) -> Any:  # noqa: ANN401 - a capsule
        return self._tensor.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the CPU
