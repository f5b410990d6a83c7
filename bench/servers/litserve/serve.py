"""Serve a pickled scorer with LitServe, in LitServe's own environment.

python serve.py SCORER PORT
"""

# Annotations stay types: LitServe hands those of a request and an answer to FastAPI as they are.

import signal
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import litserve

from bench.servers.rows import row


class Churn(litserve.LitAPI):
    """Answers one customer after the other.

    Batching is off, as it is by default: every request crosses the queues between the processes by
    itself in either case, so a batch only makes it wait. With 32 connections and with one, in
    requests a second:

        no batching                       1240  1120
        at most 32, waiting up to 1 ms    1130   530
        at most 64, waiting up to 3 ms    1220   260
        at most 32, not waiting            650   650
    """

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Load the scorer."""
        self.scorer = cloudpickle.loads(Path(sys.argv[1]).read_bytes())

    def decode_request(self, request: dict[str, Any]) -> list[float]:
        """Return the feature row of a customer."""
        return row(request)

    def predict(self, x: list[float]) -> float:
        """Return the churn probability."""
        churn: float = self.scorer.score_row(x)
        return churn

    def encode_response(self, output: float) -> dict[str, float]:
        """Return the answer."""
        return {"churn_probability": output}


def serve(port: int) -> None:
    """Answer at ``/predict`` on 127.0.0.1, until SIGTERM or Ctrl-C."""
    # LitServe ends its processes at Ctrl-C only: at SIGTERM, all but the first would live on.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = litserve.LitServer(Churn(), accelerator="cpu", fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=port,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    serve(int(sys.argv[2]))
