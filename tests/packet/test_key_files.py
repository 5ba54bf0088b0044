"""Key files that others wrote, moved or exchanged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from m2kt.cli import app
from m2kt.errors import StorageError
from m2kt.packet import foreign_keys, is_locked, list_keys, new_key, read_signer, show_key

BAG = b"Bag Attributes\n    friendlyName: tom\nKey Attributes: <No Attributes>\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "keys"


def other_kind(path: Path) -> None:
    key = generate_private_key(SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


FOREIGN: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("not a key"),
    "empty": lambda path: path.write_bytes(b""),
    "bytes": lambda path: path.write_bytes(b"\xff\x00" * 99),
    "large": lambda path: os.truncate(path, 5 << 30) if path.touch() is None else None,
    "folder": Path.mkdir,
    "pipe": lambda path: os.mkfifo(path),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "certificate": lambda path: path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    "other-kind": other_kind,
    "public": lambda path: path.write_text(show_key("ann").public_key),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_hides_no_key(kind: str, home: Path) -> None:
    ann, zoe = new_key("ann"), new_key("zoe")
    FOREIGN[kind](home / "foreign.pem")
    assert list_keys() == [ann, zoe]
    (reason,) = foreign_keys()
    assert "foreign.pem" in reason
    listed = CliRunner().invoke(app, ["keys", "list"])
    assert listed.exit_code == 0 and "ann" in listed.stdout and "left out" in listed.stderr


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
@pytest.mark.parametrize("head", [b"", BAG, b"\n\n", BAG.replace(b"\n", b"\r\n")])
def test_lines_before_a_key_do_not_hide_that_it_is_locked(head: bytes, passphrase: str | None, home: Path) -> None:
    made = new_key("tom", passphrase)
    path = Path(made.path)
    path.write_bytes(head + path.read_bytes())
    assert is_locked(path) is (passphrase is not None) and show_key("tom") == made
    if passphrase is not None:
        with pytest.raises(StorageError, match="is locked"):
            read_signer(path)
    assert read_signer(path, passphrase).public_key.keyid == made.keyid


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
def test_a_public_file_of_another_key_is_not_signed_for(passphrase: str | None, home: Path) -> None:
    made, mallory = new_key("tom", passphrase), new_key("mallory")
    Path(made.path).with_suffix(".pub").write_text(mallory.public_key)
    with pytest.raises(StorageError, match="got another; delete"):
        read_signer(Path(made.path), passphrase)
    if passphrase is None:
        with pytest.raises(StorageError, match="got another"):
            show_key("tom")
