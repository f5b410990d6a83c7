"""Applications of this folder under uvicorn, in the environment of the bench."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.servers.server import Launch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.servers.server import Site

__all__ = ["TUNED", "TUNED_NEEDS", "launch"]

TUNED: Final = (
    "--loop=uvloop",
    "--http=httptools",
    "--no-access-log",
    "--no-server-header",
    "--no-proxy-headers",
)
TUNED_NEEDS: Final = ("uvicorn", "uvloop", "httptools", "numpy", "cloudpickle")


def launch(folder: Path, app: str, *options: str) -> Callable[[Site], Launch]:
    """Return how to start the application ``app`` of ``app.py`` in this folder."""

    def launched(site: Site) -> Launch:
        target = (str(site.python), "-m", "uvicorn", f"app:{app}", f"--app-dir={folder}")
        return Launch((*target, f"--port={site.port}", *options))

    return launched
