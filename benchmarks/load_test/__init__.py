"""``make load``: run ``locustfile.py`` against a service, and write down what came of it.

``server`` finds the service or starts one, ``drive`` runs Locust, ``report`` shows the figures that
``summary`` got out of it. ``sample`` makes ``customers.jsonl``, whom the load test asks about.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["CUSTOMERS"]

CUSTOMERS: Final = Path(__file__).with_name("customers.jsonl")
