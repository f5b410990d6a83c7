"""Where the services of one deployment reach each other, and where they must not.

BentoML sends pickle to its inner services, which unpickle it: whoever reaches their address can run
code. Only a Unix socket in a folder of this user is an address for that, and BentoML takes TCP
where it thinks that there are none.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from typing import TYPE_CHECKING, Final

from churn_serving.errors import SettingsError

if TYPE_CHECKING:
    import uvicorn
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

__all__ = ["RUNNER", "address_of", "expect_unix_socket", "refuse_requests", "require_unix_socket"]

logger = logging.getLogger(__name__)

RUNNER: Final = "ChurnRunner"
"""The service that runs the model in the split topology."""

_ADDRESSES: Final = "BENTOML_RUNNER_MAP"
"""Where BentoML's supervisor tells its workers at which address each service is found."""
_NO_UNIX_SOCKETS: Final = "BENTOML_NO_UDS"
# How BentoML writes the address of a Unix socket; its client dials TCP for all else.
_UNIX_SOCKET: Final = "file:///"
_WHY: Final = (
    "CHURN_TOPOLOGY=split needs a Unix socket between its services, because BentoML's inner "
    "services unpickle what they are sent"
)
_INSTEAD: Final = "set CHURN_TOPOLOGY=embedded"


def address_of(service: str) -> str | None:
    """Return where a service is found, in a process that BentoML's supervisor has started."""
    addresses: dict[str, str] = json.loads(os.environ.get(_ADDRESSES, "{}"))
    return addresses.get(service)


def expect_unix_socket() -> None:
    """Foretell, in the supervisor, which kind of address BentoML will give its inner services.

    Raises:
        SettingsError: It will be TCP.
    """
    # As in ``_get_server_socket`` of BentoML, which looks whether the variable is there at all.
    if _NO_UNIX_SOCKETS in os.environ:
        raise SettingsError(
            f"{_WHY}, and {_NO_UNIX_SOCKETS} is in the environment: unset it, or {_INSTEAD}."
        )
    if os.name == "nt" or "microsoft-standard" in platform.release():
        raise SettingsError(f"{_WHY}, and BentoML has none on Windows and WSL: {_INSTEAD}.")


def require_unix_socket() -> None:
    """Look, in a worker, which address BentoML has given the service that runs the model.

    Raises:
        SettingsError: It is no Unix socket.
    """
    address = address_of(RUNNER)
    if address is None or not address.startswith(_UNIX_SOCKET):
        raise SettingsError(f"{_WHY}, and {RUNNER} is at {address or 'no address'}: {_INSTEAD}.")


def refuse_requests(server: uvicorn.Server, reason: Exception) -> None:
    """Answer whatever comes with 503, unread.

    A process that ended instead would be started again, and again.

    Args:
        server: Must not have accepted any connection yet.
        reason: Goes into the log.
    """
    logger.critical("%s This process stays up and answers nobody", reason)
    server.config.loaded_app = _unavailable


async def _unavailable(scope: Scope, _: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    if scope["type"] == "http":
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await send(
            {"type": "http.response.start", "status": 503, "headers": headers, "trailers": False}
        )
        await send({"type": "http.response.body", "body": b"", "more_body": False})
