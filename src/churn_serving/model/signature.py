"""Signatures of models: Ed25519 over the bytes of a manifest, with keys that openssl reads, too.

A key file is the usual PEM (RFC 8410: PKCS #8 for the private key, SPKI for the public one). Both
forms are a fixed prefix before the 32 bytes of the key, so no parser of ASN.1 is needed.

PyNaCl is imported where it is used: a service without a public key needs none of it in memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from churn_serving.errors import ModelUntrustedError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "SIGNATURE_BYTES",
    "PrivateKey",
    "PublicKey",
    "fingerprint",
    "generate_key_pair",
    "public_key_of",
    "read_private_key",
    "read_public_key",
    "sign",
    "verify",
]

SIGNATURE_BYTES: Final = 64

_KEY_BYTES: Final = 32
_PRIVATE: Final = "PRIVATE KEY"
_PUBLIC: Final = "PUBLIC KEY"
_PREFIXES: Final = {
    _PRIVATE: bytes.fromhex("302e020100300506032b657004220420"),
    _PUBLIC: bytes.fromhex("302a300506032b6570032100"),
}
_ED25519: Final = bytes.fromhex("06032b6570")
"""The object identifier of the algorithm, 1.3.101.112."""

_BLOCK: Final = re.compile(
    r"^-----BEGIN ([A-Z0-9 ]+)-----\s*$(.*?)^-----END \1-----\s*$", re.MULTILINE | re.DOTALL
)
_MAX_FILE_BYTES: Final = 64 * 1024
"""A key has about a hundred bytes; whatever is much larger is another file."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What checks signatures; its 32 bytes."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """What makes signatures; its 32 bytes are never shown."""

    seed: bytes = field(repr=False)


def generate_key_pair() -> tuple[bytes, bytes]:
    """Return a new private key and its public key, each as the content of a PEM file."""
    from nacl.utils import random  # noqa: PLC0415 - see the module's docstring

    private = PrivateKey(random(_KEY_BYTES))
    return _pem(_PRIVATE, private.seed), _pem(_PUBLIC, public_key_of(private).raw)


def public_key_of(private: PrivateKey) -> PublicKey:
    """Return the public key that checks what the private one signs."""
    from nacl.bindings import crypto_sign_seed_keypair  # noqa: PLC0415 - likewise

    return PublicKey(crypto_sign_seed_keypair(private.seed)[0])


def read_private_key(path: Path) -> PrivateKey:
    """Read a private key, as ``churn model keygen`` or ``openssl genpkey`` writes it.

    Raises:
        SettingsError: The file holds none; the message says what it is instead.
    """
    return PrivateKey(_read(path, _PRIVATE))


def read_public_key(path: Path) -> PublicKey:
    """Read a public key, as ``churn model keygen`` or ``openssl pkey -pubout`` writes it.

    Raises:
        SettingsError: The file holds none; the message says what it is instead.
    """
    return PublicKey(_read(path, _PUBLIC))


def sign(private: PrivateKey, manifest: bytes) -> bytes:
    """Return the signature of a manifest, 64 bytes."""
    from nacl.bindings import crypto_sign, crypto_sign_seed_keypair  # noqa: PLC0415 - likewise

    _, secret = crypto_sign_seed_keypair(private.seed)
    return crypto_sign(manifest, secret)[:SIGNATURE_BYTES]


def verify(public: PublicKey, manifest: bytes, signature: bytes) -> None:
    """Return if the signature is that of the manifest by the key's owner.

    Raises:
        ModelUntrustedError: It is not.
    """
    from nacl.bindings import crypto_sign_open  # noqa: PLC0415 - likewise
    from nacl.exceptions import BadSignatureError  # noqa: PLC0415 - likewise

    if len(signature) != SIGNATURE_BYTES:
        raise ModelUntrustedError(
            f"The signature has {len(signature)} bytes; one of Ed25519 has {SIGNATURE_BYTES}."
        )
    try:
        crypto_sign_open(signature + manifest, public.raw)
    except BadSignatureError:
        raise ModelUntrustedError(
            f"The signature was not made for this model with the key {fingerprint(public)}: the "
            "model was changed after it was signed, or signed with another key."
        ) from None


def fingerprint(public: PublicKey) -> str:
    """Return a short text that stands for the key in logs.

    It is the SHA-256 of the key's DER form; openssl says the same::

        openssl pkey -pubin -in KEY -outform DER | openssl dgst -sha256 -binary | base64
    """
    digest = hashlib.sha256(_PREFIXES[_PUBLIC] + public.raw).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _pem(label: str, key: bytes) -> bytes:
    encoded = base64.b64encode(_PREFIXES[label] + key).decode()
    return f"-----BEGIN {label}-----\n{encoded}\n-----END {label}-----\n".encode()


def _read(path: Path, wanted: str) -> bytes:
    """Return the 32 bytes of the key in a PEM file, which may hold other text around it."""
    blocks = _BLOCK.findall(_text(path, wanted))
    if not blocks:
        raise _refusal(path, wanted, "holds none")
    if len(blocks) > 1:
        raise _refusal(path, wanted, f"holds {len(blocks)} keys or certificates")
    [(label, body)] = blocks
    if label != wanted:
        raise _refusal(path, wanted, _instead(label, path))
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _refusal(path, wanted, "is damaged: its text is not base64") from None
    prefix = _PREFIXES[wanted]
    if _ED25519 not in der:
        raise _refusal(path, wanted, "holds a key of another kind")
    if not der.startswith(prefix) or len(der) != len(prefix) + _KEY_BYTES:
        raise _refusal(path, wanted, "is damaged, or not written as openssl writes such a key")
    return der.removeprefix(prefix)


def _text(path: Path, wanted: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _refusal(path, wanted, f"cannot be read ({error.strerror})") from None
    if len(content) > _MAX_FILE_BYTES:
        raise _refusal(path, wanted, "is too large for a key")
    return content.decode("ascii", errors="replace")


def _instead(label: str, path: Path) -> str:
    """Say what a file holds, and what to do, if the label is not the wanted one."""
    if label == _PRIVATE:
        return "holds a private key, which is for signing only and belongs nowhere else"
    if label == _PUBLIC:
        return "holds a public key, which cannot sign"
    if label == "ENCRYPTED PRIVATE KEY":
        return (
            "is encrypted with a passphrase; decrypt it with: "
            f"openssl pkey -in {path} -out PLAIN.pem"
        )
    return f"holds this instead: {label}"


def _refusal(path: Path, wanted: str, reason: str) -> SettingsError:
    return SettingsError(f"Expected an Ed25519 {wanted.lower()} in {path}, but it {reason}.")
