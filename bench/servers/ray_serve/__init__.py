"""Ray Serve: behind its proxy, which is a Python process, and behind HAProxy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.servers.server import Launch, Server

if TYPE_CHECKING:
    from bench.servers.server import Site

__all__ = ["SERVERS"]

_HERE: Final = Path(__file__).parent
_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # All that Ray's performance guide recommends: user code and router in one event loop, buffered
    # logs, nothing on standard error.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Not part of it, and better with one connection: p50 5.3 instead of 7.3 ms.
    "RAY_SERVE_PROXY_USE_GRPC": "1",
    # How long a replica waits before it stops, until load balancers no longer send it requests.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
}


def _launch(site: Site) -> Launch:
    return Launch(
        (
            *(str(site.python), str(_HERE / "service.py")),
            *(str(site.scorer), str(site.folder), str(site.port)),
        ),
        _ENVIRONMENT,
    )


def _launch_haproxy(site: Site) -> Launch:
    statistics, metrics, fallback = map(str, site.spare_ports)
    return Launch(
        _launch(site).command,
        {
            **_ENVIRONMENT,
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            # These metrics are log lines that a Python process reads: a third of all the work.
            "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
            "RAY_SERVE_HAPROXY_STATS_PORT": statistics,
            "RAY_SERVE_HAPROXY_METRICS_PORT": metrics,
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": fallback,
        },
    )


_RAY_SERVE: Final = Server(
    name="ray-serve",
    title="Ray Serve",
    folder=_HERE,
    needs=("ray",),
    launch=_launch,
    batching="no timer",
    how="one replica behind its Python proxy, throughput flags, gRPC between them; "
    "batches of up to 64, no waiting; no access log",
)

SERVERS: Final = (
    _RAY_SERVE,
    replace(
        _RAY_SERVE,
        name="ray-serve-haproxy",
        title="Ray Serve, HAProxy",
        launch=_launch_haproxy,
        how="one replica behind HAProxy (one thread, no metrics), throughput flags; "
        "batches of up to 64, no waiting; no access log",
    ),
)
