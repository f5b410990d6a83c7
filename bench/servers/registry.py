"""Every server, in the order in which they are run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.errors import BenchmarkError
from bench.servers import (
    bentoml_untuned,
    empty,
    fastapi_textbook,
    fastapi_tuned,
    limit,
    litserve,
    mlflow,
    mlserver,
    ours,
    ray_serve,
    starlette,
    torchserve,
    triton,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.servers.server import Server

__all__ = ["ALL", "SERVERS", "chosen"]

ALL: Final = "all"

SERVERS: Final[dict[str, Server]] = {
    server.name: server
    for folder in (
        ours,
        limit,
        empty,
        starlette,
        fastapi_tuned,
        fastapi_textbook,
        bentoml_untuned,
        torchserve,
        triton,
        mlflow,
        mlserver,
        litserve,
        ray_serve,
    )
    for server in folder.SERVERS
}


def chosen(names: Sequence[str]) -> list[Server]:
    """Return the servers of these names; of none: the usual ones; of ``ALL``: all.

    Raises:
        BenchmarkError: There is no server of this name.
    """
    if unknown := set(names) - {ALL, *SERVERS}:
        raise BenchmarkError(
            f"There is no server {', '.join(sorted(unknown))}; there are: {', '.join(SERVERS)}."
        )
    return [
        server
        for name, server in SERVERS.items()
        if name in names or ALL in names or (not names and server.usual)
    ]
