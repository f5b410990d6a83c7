"""Signatures are what openssl says they are, and a wrong key file gets one sentence."""

from __future__ import annotations

import base64
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_serving.errors import ModelUntrustedError, SettingsError
from churn_serving.model.signature import (
    PrivateKey,
    PublicKey,
    fingerprint,
    generate_key_pair,
    public_key_of,
    read_private_key,
    read_public_key,
    sign,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MANIFEST = b'{"format": 1, "tag": "churn_classifier:a"}'

# RFC 8032, section 7.1, test 3.
SEED = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
PUBLIC = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
SIGNATURE = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


@pytest.fixture
def private_file(tmp_path: Path) -> Path:
    path = tmp_path / "churn.key.pem"
    path.write_bytes(generate_key_pair()[0])
    return path


@pytest.fixture
def openssl(tmp_path: Path) -> Callable[..., bytes]:
    """Run the program in the test's folder, and return what it prints."""

    def run(arguments: str, stdin: bytes = b"") -> bytes:
        return subprocess.run(
            ["openssl", *arguments.split()],  # noqa: S607 - from the PATH
            cwd=tmp_path,
            input=stdin,
            check=True,
            capture_output=True,
        ).stdout

    return run


def test_a_signature_is_that_of_the_standard() -> None:
    assert public_key_of(PrivateKey(SEED)).raw == PUBLIC
    assert sign(PrivateKey(SEED), b"\xaf\x82") == SIGNATURE
    verify(PublicKey(PUBLIC), b"\xaf\x82", SIGNATURE)


def test_each_key_pair_is_another_and_its_halves_belong_together(tmp_path: Path) -> None:
    pairs = [generate_key_pair() for _ in range(3)]
    for private_pem, public_pem in pairs:
        (tmp_path / "private").write_bytes(private_pem)
        (tmp_path / "public").write_bytes(public_pem)
        public = public_key_of(read_private_key(tmp_path / "private"))
        assert read_public_key(tmp_path / "public") == public
    assert len({fingerprint(read_public_key(tmp_path / "public"))} | {*pairs}) == 4


def test_openssl_reads_our_keys_and_verifies_our_signature(
    tmp_path: Path, openssl: Callable[..., bytes]
) -> None:
    private_pem, public_pem = generate_key_pair()
    (tmp_path / "key").write_bytes(private_pem)
    (tmp_path / "pub").write_bytes(public_pem)
    assert openssl("pkey -in key -pubout") == public_pem
    (tmp_path / "manifest").write_bytes(MANIFEST)
    (tmp_path / "sig").write_bytes(sign(read_private_key(tmp_path / "key"), MANIFEST))
    said = openssl("pkeyutl -verify -pubin -inkey pub -rawin -in manifest -sigfile sig")
    assert b"Signature Verified Successfully" in said


def test_we_read_keys_of_openssl_and_verify_its_signature(
    tmp_path: Path, openssl: Callable[..., bytes]
) -> None:
    openssl("genpkey -algorithm ed25519 -out key")
    openssl("pkey -in key -pubout -out pub")
    (tmp_path / "manifest").write_bytes(MANIFEST)
    openssl("pkeyutl -sign -inkey key -rawin -in manifest -out sig")
    private, public = read_private_key(tmp_path / "key"), read_public_key(tmp_path / "pub")
    verify(public, MANIFEST, (tmp_path / "sig").read_bytes())
    # Ed25519 has no randomness: both sign alike.
    assert sign(private, MANIFEST) == (tmp_path / "sig").read_bytes()


def test_openssl_computes_the_same_fingerprint(
    tmp_path: Path, openssl: Callable[..., bytes]
) -> None:
    (tmp_path / "pub").write_bytes(generate_key_pair()[1])
    der = openssl("pkey -pubin -in pub -outform DER")
    digest = openssl("dgst -sha256 -binary", stdin=der)
    theirs = base64.b64encode(digest).decode().rstrip("=")
    assert fingerprint(read_public_key(tmp_path / "pub")) == f"SHA256:{theirs}"


@given(st.binary(max_size=80), st.integers(0), st.integers(0, 7))
def test_a_manifest_with_one_bit_changed_is_not_trusted(
    manifest: bytes, place: int, bit: int
) -> None:
    altered = bytearray(manifest or b"\0")
    altered[place % len(altered)] ^= 1 << bit
    with pytest.raises(ModelUntrustedError, match="changed after it was signed"):
        verify(PublicKey(PUBLIC), bytes(altered), sign(PrivateKey(SEED), manifest or b"\0"))


@given(st.integers(0, 511))
def test_a_signature_with_one_bit_changed_is_not_trusted(bit: int) -> None:
    altered = bytearray(SIGNATURE)
    altered[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ModelUntrustedError, match="changed after it was signed"):
        verify(PublicKey(PUBLIC), b"\xaf\x82", bytes(altered))


def test_a_signature_by_another_key_is_not_trusted() -> None:
    other = public_key_of(PrivateKey(bytes(32)))
    with pytest.raises(ModelUntrustedError) as refused:
        verify(other, b"\xaf\x82", SIGNATURE)
    assert fingerprint(other) in str(refused.value)


@pytest.mark.parametrize("signature", [b"", SIGNATURE[:-1], SIGNATURE + b"\n", b"A" * 4096])
def test_a_signature_of_another_length_is_not_trusted(signature: bytes) -> None:
    with pytest.raises(ModelUntrustedError, match=f"has {len(signature)} bytes"):
        verify(PublicKey(PUBLIC), b"\xaf\x82", signature)


@pytest.mark.parametrize("raw", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_a_public_key_that_would_take_any_signature_takes_none(raw: bytes) -> None:
    with pytest.raises(ModelUntrustedError):
        verify(PublicKey(raw), MANIFEST, raw + bytes(32))


def test_text_around_a_key_and_windows_line_ends_are_no_harm(private_file: Path) -> None:
    expected = read_private_key(private_file)
    text = private_file.read_bytes().replace(b"\n", b"\r\n")
    private_file.write_bytes(b"made by Jo\r\n" + text + b"\r\nkeep it safe\r\n")
    assert read_private_key(private_file) == expected


@pytest.mark.parametrize("algorithm", ["rsa", "x25519", "ed448"])
def test_a_key_of_another_kind_is_refused_in_one_sentence(
    algorithm: str, tmp_path: Path, openssl: Callable[..., bytes]
) -> None:
    openssl(f"genpkey -algorithm {algorithm} -out key")
    openssl("pkey -in key -pubout -out pub")
    for read, name in ((read_private_key, "key"), (read_public_key, "pub")):
        assert "but it holds a key of another kind." in _refused(read, tmp_path / name)


def test_an_encrypted_key_is_refused_with_the_command_that_decrypts_it(
    tmp_path: Path, private_file: Path, openssl: Callable[..., bytes]
) -> None:
    path = tmp_path / "locked.pem"
    openssl(f"pkey -in {private_file} -aes256 -passout pass:x -out {path}")
    message = _refused(read_private_key, path)
    assert "is encrypted with a passphrase" in message
    assert f"openssl pkey -in {path}" in message


def test_the_wrong_half_of_a_pair_is_refused(tmp_path: Path, private_file: Path) -> None:
    public_file = tmp_path / "churn.pub.pem"
    public_file.write_bytes(generate_key_pair()[1])
    assert "holds a private key, which is for signing only" in _refused(
        read_public_key, private_file
    )
    assert "holds a public key, which cannot sign" in _refused(read_private_key, public_file)


PEM = "-----BEGIN {0}-----\n{1}\n-----END {0}-----\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "holds none"),
        ("sha256:0123\n", "holds none"),
        ("\ufeff", "holds none"),
        ("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA", "holds none"),
        (PEM.format("RSA PRIVATE KEY", "AAAA"), "holds this instead: RSA PRIVATE KEY"),
        (PEM.format("OPENSSH PRIVATE KEY", "AAAA"), "holds this instead: OPENSSH PRIVATE KEY"),
        (PEM.format("CERTIFICATE", "AAAA"), "holds this instead: CERTIFICATE"),
        (PEM.format("PUBLIC KEY", "not base64!"), "its text is not base64"),
        (PEM.format("PUBLIC KEY", "MCowBQYDK2VwAyEAAAAA"), "is damaged"),
        (PEM.format("PUBLIC KEY", "AAAA") * 2, "holds 2 keys or certificates"),
        ("x" * 70_000, "is too large for a key"),
    ],
)
def test_a_file_that_is_no_key_is_refused_in_one_sentence(
    content: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "key.pem"
    path.write_text(content, encoding="utf-8")
    assert reason in _refused(read_public_key, path)


def test_a_file_that_is_not_there_is_refused_in_one_sentence(tmp_path: Path) -> None:
    message = _refused(read_public_key, tmp_path / "none.pem")
    assert message.endswith("none.pem, but it cannot be read (No such file or directory).")
    assert "cannot be read (Is a directory)" in _refused(read_private_key, tmp_path)


@given(content=st.binary(max_size=300))
def test_no_content_of_a_key_block_raises_anything_else(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pem"
    path.write_text(PEM.format("PUBLIC KEY", base64.b64encode(content).decode()))
    _refused(read_public_key, path)


def test_a_private_key_is_not_shown_by_accident() -> None:
    assert repr(SEED) not in repr(PrivateKey(SEED))
    assert SEED.hex() not in repr(PrivateKey(SEED))


def test_nothing_of_pynacl_is_loaded_before_a_key_is_used() -> None:
    code = "import churn_serving.model.signature, sys; sys.exit('nacl' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def _refused(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(SettingsError) as refused:
        read(path)
    message = str(refused.value)
    assert "\n" not in message
    return message
