"""API keys, when there are any."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from churn_serving.errors import SettingsError, UnauthorizedError
from churn_serving.http.pages import METRICS
from churn_serving.runtime.state import PROBES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from churn_serving.settings import Settings

__all__ = ["Keys", "key_digests"]

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


class Keys:
    """Who may come in.

    Args:
        digests: The SHA-256 of each key.
        metrics_public: Whether ``/metrics`` is open, too.
    """

    def __init__(self, digests: tuple[bytes, ...], *, metrics_public: bool) -> None:
        self._digests = digests
        self._open_paths = PROBES | ({METRICS} if metrics_public else set())

    def check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Let a request pass.

        Raises:
            UnauthorizedError: It has none of the keys, and needs one.
        """
        if path in self._open_paths:
            return
        presented = hashlib.sha256(_key(headers)).digest()
        # Each in constant time, and all of them: how long it takes must say nothing.
        if not sum(hmac.compare_digest(presented, digest) for digest in self._digests):
            raise UnauthorizedError(
                "Send an API key: Authorization: Bearer KEY, or X-API-Key: KEY."
            )


def _key(headers: Mapping[bytes, bytes]) -> bytes:
    authorization = headers.get(b"authorization", b"")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return headers.get(b"x-api-key", b"")
