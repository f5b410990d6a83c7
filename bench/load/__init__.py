"""Everything that asks a server, shared by the bench, ``make load`` and the chaos tests.

On raw sockets: ``answer`` knows HTTP, ``crowd`` many connections, ``callers`` a closed loop,
``schedule`` an open one, ``background`` their threads. By processes of their own: ``wrk``,
``overload`` (h2load), ``pacer`` (a schedule); ``stop`` is SIGTERM under load.

``make load`` (``__main__``) runs Locust with ``locustfile.py``: ``service`` finds the service or
starts one, ``drive`` runs Locust, ``report`` shows the figures that ``summary`` got out of it.
``sample`` makes ``customers.jsonl``, whom all of them ask about.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["CUSTOMERS"]

CUSTOMERS: Final = Path(__file__).with_name("customers.jsonl")
