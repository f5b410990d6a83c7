"""Keys are made safely, and sign what was verified."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import bentoml
import pytest

from churn_serving import cli
from churn_serving.errors import ModelUntrustedError
from churn_serving.model.artifact import Trust, load_artifact
from churn_serving.model.portable import MANIFEST, SIGNATURE
from churn_serving.model.signature import fingerprint, read_public_key

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with a pair of keys."""
    assert cli.main(["model", "keygen", "--output", str(tmp_path)]) == 0
    capsys.readouterr()
    return tmp_path


@pytest.fixture
def private_key(keys: Path) -> str:
    return str(keys / "churn-model.key.pem")


@pytest.fixture
def trust(keys: Path) -> Trust:
    return Trust(public_key=read_public_key(keys / "churn-model.pub.pem"))


def _failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(["model", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    return error


def test_the_private_key_can_be_read_by_its_owner_only(keys: Path) -> None:
    assert stat.S_IMODE((keys / "churn-model.key.pem").stat().st_mode) == 0o600
    assert sorted(path.name for path in keys.iterdir()) == [
        "churn-model.key.pem",
        "churn-model.pub.pem",
    ]


def test_keygen_says_the_fingerprint_and_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["model", "keygen", "--output", f"{tmp_path}/mine"]) == 0
    said = capsys.readouterr().out
    assert fingerprint(read_public_key(tmp_path / "mine.pub.pem")) in said
    assert f"churn model sign --key {tmp_path}/mine.key.pem" in said
    assert f"CHURN_MODEL_PUBLIC_KEY_FILE={tmp_path}/mine.pub.pem make serve" in said


@pytest.mark.parametrize("there", ["churn-model.key.pem", "churn-model.pub.pem"])
def test_keygen_replaces_no_key(
    there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / there).write_text("precious")
    error = _failed(capsys, "keygen", "--output", str(tmp_path))
    assert f"{there} is there already" in error
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_keygen_replaces_both_keys_when_told_to(keys: Path, private_key: str, trust: Trust) -> None:
    old = Path(private_key).read_bytes()
    assert cli.main(["model", "keygen", "--output", str(keys), "--force"]) == 0
    assert Path(private_key).read_bytes() != old
    assert stat.S_IMODE(Path(private_key).stat().st_mode) == 0o600
    assert read_public_key(keys / "churn-model.pub.pem") != trust.public_key


def test_keygen_in_a_folder_that_is_not_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _failed(capsys, "keygen", "--output", f"{tmp_path}/none/key")
    assert "No such file or directory" in error


def test_a_signed_model_is_trusted_and_an_unsigned_one_is_not(
    saved: str, private_key: str, trust: Trust, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelUntrustedError):
        load_artifact(saved, trust)
    assert cli.main(["model", "sign", saved, "--key", private_key]) == 0
    assert trust.public_key is not None
    said = capsys.readouterr().out
    assert f"Signed {saved} with the key {fingerprint(trust.public_key)}." in said
    assert "replaces" not in said
    assert load_artifact(saved, trust).tag == saved


def test_signing_again_replaces_the_signature_and_says_so(
    saved: str, private_key: str, trust: Trust, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(bentoml.models.get(saved).path)
    (folder / SIGNATURE).write_bytes(b"nonsense")
    assert cli.main(["model", "sign", saved, "--key", private_key]) == 0
    assert "It replaces the signature that was there." in capsys.readouterr().out
    assert load_artifact(saved, trust).tag == saved
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]


def test_a_damaged_model_is_not_signed(
    saved: str, private_key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(bentoml.models.get(saved).path)
    content = bytearray((folder / "portable.npz").read_bytes())
    content[-100] ^= 1
    (folder / "portable.npz").write_bytes(content)
    error = _failed(capsys, "sign", saved, "--key", private_key)
    assert "portable.npz is not the one that was registered" in error
    assert not (folder / SIGNATURE).exists()


def test_a_manifest_of_another_model_is_not_signed(
    saved: str, private_key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(bentoml.models.get(saved).path)
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace(saved, "other:version"))
    assert "is that of another one" in _failed(capsys, "sign", saved, "--key", private_key)


def test_a_public_key_does_not_sign(
    saved: str, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _failed(capsys, "sign", saved, "--key", str(keys / "churn-model.pub.pem"))
    assert "which cannot sign" in error


def test_a_private_key_that_others_can_read_is_remarked_upon(
    saved: str, private_key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(private_key).chmod(0o644)
    assert cli.main(["model", "sign", saved, "--key", private_key]) == 0
    assert f"chmod 600 {private_key}" in capsys.readouterr().err


def test_a_store_that_cannot_be_written_keeps_the_old_signature(
    saved: str,
    private_key: str,
    store_files: Callable[[], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    assert cli.main(["model", "sign", saved, "--key", private_key]) == 0
    before = store_files()
    monkeypatch.setattr("os.fsync", full)
    capsys.readouterr()
    assert cli.main(["model", "sign", saved, "--key", private_key]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert store_files() == before
