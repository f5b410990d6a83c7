"""Key pairs, and signatures of registered models."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from churn_serving.cli.model import PUBLIC_KEY_VARIABLE
from churn_serving.cli.terminal import note, say
from churn_serving.errors import ModelCorruptedError, SettingsError
from churn_serving.model import signature
from churn_serving.model.artifact import Trust, load_artifact
from churn_serving.model.portable import MANIFEST, SIGNATURE

__all__ = ["make_keys", "sign_model"]

_DEFAULT_NAME: Final = "churn-model"
_OTHERS_MAY_READ: Final = 0o077


def make_keys(output: str, *, force: bool) -> None:
    """Write a pair of keys; only their owner can read the private one.

    Raises:
        SettingsError: One of the files is there, and must not be replaced.
        OSError: They cannot be written.
    """
    prefix = Path(output).expanduser()
    if prefix.is_dir() or output.endswith("/"):
        prefix /= _DEFAULT_NAME
    private_file = prefix.with_name(f"{prefix.name}.key.pem")
    public_file = prefix.with_name(f"{prefix.name}.pub.pem")
    for path in (private_file, public_file):
        # A link that leads nowhere is something, too.
        if not force and os.path.lexists(path):
            raise SettingsError(
                f"{path} is there already; choose another place with --output, or replace both "
                "files with --force: models signed with the old key then need a new signature."
            )
    private_pem, public_pem = signature.generate_key_pair()
    _write(private_file, private_pem, 0o600)
    _write(public_file, public_pem, 0o644)
    public = signature.read_public_key(public_file)
    say(f"Private key, to sign models with: {private_file}")
    say(f"Public key, to check them with:   {public_file}")
    say(f"Fingerprint of the public key:    {signature.fingerprint(public)}")
    say("")
    say("Keep the private key away from the machines that serve, and out of version control.")
    say(f"Sign the newest model:      churn model sign --key {private_file}")
    say(f"Serve nothing but signed:   {PUBLIC_KEY_VARIABLE}={public_file} make serve")


def sign_model(tag: str, key: Path, *, allow_pickle: bool) -> None:
    """Write the signature of a model into its folder.

    Raises:
        SettingsError: The file holds no private key.
        ModelError: The model cannot be served.
        OSError: The store cannot be written.
    """
    private = signature.read_private_key(key)
    if key.stat().st_mode & _OTHERS_MAY_READ:
        note(f"other users of this machine may read {key}; change that with: chmod 600 {key}")
    artifact = load_artifact(tag, Trust(allow_pickle=allow_pickle))
    manifest = (artifact.folder / MANIFEST).read_bytes()
    # What was verified is what is signed.
    if hashlib.sha256(manifest).hexdigest() != artifact.sha256:
        raise ModelCorruptedError(f"The model '{artifact.tag}' was changed while it was verified.")
    path = artifact.folder / SIGNATURE
    replaced = path.exists()
    _write(path, signature.sign(private, manifest), 0o644)
    fingerprint = signature.fingerprint(signature.public_key_of(private))
    say(f"Signed {artifact.tag} with the key {fingerprint}.")
    if replaced:
        say("It replaces the signature that was there.")
    note("a Bento or an image that has this model already does not get the signature; build anew")


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that it is there whole, with its mode, or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
