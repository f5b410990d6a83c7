"""What the chaos tests ask, by the clients of the bench."""

from __future__ import annotations

import json
from functools import partial
from typing import Final

from bench.load import callers, schedule
from bench.load.answer import PATIENCE_SECONDS, Answer, ask, parse, request
from bench.load.background import Background, Pauses
from bench.load.crowd import Connection, Crowd
from bench.load.schedule import Exchange, percentile_ms, percentiles_ms
from tests.bad_requests import CUSTOMER, PREDICT

__all__ = [
    "ASK_HEALTH",
    "ASK_PREDICTION",
    "ASK_READY",
    "PATIENCE_SECONDS",
    "Answer",
    "Background",
    "Callers",
    "Connection",
    "Crowd",
    "Exchange",
    "Pauses",
    "Schedule",
    "ask",
    "parse",
    "percentile_ms",
    "percentiles_ms",
    "request",
]

ASK_PREDICTION: Final = request("POST", PREDICT, json.dumps(CUSTOMER).encode())
ASK_HEALTH: Final = request("GET", "/health")
ASK_READY: Final = request("GET", "/health/ready")

# They ask for a prediction unless they are told otherwise.
Callers: Final = partial(callers.Callers, what=ASK_PREDICTION)
Schedule: Final = partial(schedule.Schedule, what=[ASK_PREDICTION])
