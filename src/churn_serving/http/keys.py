"""API keys, when there are any."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from churn_serving.errors import SettingsError, UnauthorizedError
from churn_serving.http.health import LIVENESS, READINESS
from churn_serving.http.observability import METRICS
from churn_serving.http.problems import answer_to, send_answer
from churn_serving.http.routes import BENTOML_LIVENESS, BENTOML_READINESS, route_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from churn_serving.runtime.state import ServiceState
    from churn_serving.settings import Settings

__all__ = ["guarded", "key_digests"]

# Probes have no secrets to present.
_ALWAYS_OPEN: Final = {LIVENESS, READINESS, BENTOML_LIVENESS, BENTOML_READINESS}
_COMMENT: Final = "#"
_DIGEST: Final = "sha256:"
_BEARER: Final = b"bearer "


def key_digests(settings: Settings) -> tuple[bytes, ...]:
    """Return the SHA-256 of each key that is accepted; none, if no key is asked for.

    Raises:
        SettingsError: The file of keys cannot be read, or has none.
    """
    digests = [bytes.fromhex(key.removeprefix(_DIGEST)) for key in settings.api_keys]
    if settings.api_keys_file is not None:
        try:
            text = settings.api_keys_file.read_text(encoding="utf-8")
            lines = [
                line
                for line in map(str.strip, text.splitlines())
                if line and not line.startswith(_COMMENT)
            ]
            digests += [_digest(line) for line in lines]
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"CHURN_API_KEYS_FILE cannot be read ({type(error).__name__}); "
                "it needs one key, or sha256: and its digest, in each line."
            ) from None
        if not lines:
            raise SettingsError("CHURN_API_KEYS_FILE has no key in it.")
    return tuple(digests)


def _digest(line: str) -> bytes:
    """Return the digest of a key, or the one that stands there in its place."""
    if not line.startswith(_DIGEST):
        return hashlib.sha256(line.encode()).digest()
    digest = bytes.fromhex(line.removeprefix(_DIGEST))
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError("not a SHA-256 digest")
    return digest


def guarded(
    app: ASGIApp, *, digests: tuple[bytes, ...], state: ServiceState, metrics_public: bool
) -> ASGIApp:
    """Return the application behind a check of the API key.

    Args:
        app: Is reached only with one of the keys, but for the probes.
        digests: The SHA-256 of each key.
        state: Counts refusals.
        metrics_public: Whether ``/metrics`` is open, too.
    """
    open_paths = _ALWAYS_OPEN | ({METRICS} if metrics_public else set())

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in open_paths or _may_pass(scope, digests):
            await app(scope, receive, send)
            return
        error = UnauthorizedError("Send an API key: Authorization: Bearer KEY, or X-API-Key: KEY.")
        await send_answer(send, answer_to(error, route=route_of(scope), metrics=state.metrics))

    return checked


def _may_pass(scope: Scope, digests: tuple[bytes, ...]) -> bool:
    presented = hashlib.sha256(_key(dict(scope["headers"]))).digest()
    # Each in constant time, and all of them: how long it takes must say nothing.
    return sum(hmac.compare_digest(presented, digest) for digest in digests) > 0


def _key(headers: Mapping[bytes, bytes]) -> bytes:
    authorization = headers.get(b"authorization", b"")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return headers.get(b"x-api-key", b"")
