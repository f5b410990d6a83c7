"""API keys, when there are any."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

from churn_serving.errors import SettingsError, UnauthorizedError
from churn_serving.http.pages import METRICS
from churn_serving.http.web import WEB
from churn_serving.runtime.state import PROBES
from churn_serving.settings import DIGEST_OF_NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from churn_serving.settings import Settings

__all__ = ["Keys", "key_digests"]

_COMMENT: Final = "#"
_DIGEST: Final = "sha256:"
_DIGITS: Final = re.compile(r"[0-9a-f]{64}")
_BEARER: Final = b"bearer "


def key_digests(settings: Settings) -> tuple[bytes, ...]:
    """Return the SHA-256 of each key that is accepted; none, if no key is asked for.

    Raises:
        SettingsError: The file of keys cannot be read, or has none.
    """
    digests = [bytes.fromhex(key.removeprefix(_DIGEST)) for key in settings.api_keys]
    if settings.api_keys_file is not None:
        # An editor may put a byte order mark before the first key.
        try:
            text = settings.api_keys_file.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"CHURN_API_KEYS_FILE cannot be read ({type(error).__name__}); it needs one key, "
                "or sha256: and its digest, in each line of a UTF-8 text."
            ) from None
        lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
        keys = [(number, line) for number, line in lines if line and not line.startswith(_COMMENT)]
        if not keys:
            raise SettingsError("CHURN_API_KEYS_FILE has no key in it.")
        digests += [_digest(line, number) for number, line in keys]
    return tuple(digests)


def _digest(line: str, number: int) -> bytes:
    """Return the digest of a key, or the one that stands there in its place.

    Raises:
        SettingsError: What stands there can be neither; the message names the line, not the key.
    """
    if not line.lower().startswith(_DIGEST):
        if not line.isprintable():
            raise SettingsError(
                f"CHURN_API_KEYS_FILE, line {number}: a key has no control characters."
            )
        return hashlib.sha256(line.encode()).digest()
    digits = line[len(_DIGEST) :].strip().lower()
    if not _DIGITS.fullmatch(digits) or f"{_DIGEST}{digits}" == DIGEST_OF_NOTHING:
        raise SettingsError(
            f"CHURN_API_KEYS_FILE, line {number}: sha256: must be followed by the 64 hexadecimal "
            "digits of a key's digest; make api-key writes one."
        )
    return bytes.fromhex(digits)


class Keys:
    """Who may come in.

    Args:
        digests: The SHA-256 of each key.
        metrics_public: Whether ``/metrics`` is open, too.
    """

    def __init__(self, digests: tuple[bytes, ...], *, metrics_public: bool) -> None:
        self._digests = digests
        # The page asks for a key itself, and shows nothing without one.
        self._open_paths = PROBES | WEB | ({METRICS} if metrics_public else set())

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
