"""Key files: Ed25519 private keys as PEM under ``M2KT_HOME/keys``, for their owner's eyes, never overwritten.

The public half lies beside a key as ``NAME.pub``, so that a locked key can be shown without its passphrase.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import BaseModel, ConfigDict, Field
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from m2kt._home import m2kt_home
from m2kt.errors import StorageError, explain

LOCAL = "ed25519"
PASSPHRASE = "M2KT_PASSPHRASE"
"""Environment variable that unlocks a key where nobody can be asked."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class KeyInfo(BaseModel):
    """What may be told about a key: nothing of its private half."""

    model_config = ConfigDict(extra="forbid")

    name: str
    path: str
    keyid: str = Field(description="sha256 of the public key in securesystemslib's canonical form.")
    public_key: str = Field(description="PEM; goes into a trust policy.")
    locked: bool = Field(description="Whether a passphrase protects the private key.")


def key_path(key: str | Path | None = None) -> Path:
    """The file of a key given by path or by name; the local key by default."""
    if key is None:
        return _folder() / f"{LOCAL}.pem"
    if Path(key).is_file() or not _NAME.fullmatch(str(key)):
        return Path(key)
    return _folder() / f"{key}.pem"


def local_key(path: Path | None = None) -> Path:
    """The local Ed25519 key, made on first use, readable by its owner alone."""
    path = path or key_path()
    if not path.is_file():
        try:
            _write_once(path, _pem(Ed25519PrivateKey.generate(), None))
        except FileExistsError:
            pass  # another process was first: its key is the key
        except OSError as error:
            raise _not_written(path, error) from error
    return path


def new_key(name: str, passphrase: str | None = None) -> KeyInfo:
    """Makes a key called ``name``.

    Raises:
        StorageError: the name is taken or no name for a file, or the disk refused.
    """
    if not _NAME.fullmatch(name):
        raise StorageError(f"expected a key name of letters, digits, '.', '_' and '-', came {name!r}")
    path, private = _folder() / f"{name}.pem", Ed25519PrivateKey.generate()
    try:
        _write_once(path, _pem(private, passphrase))
        _write_once(path.with_suffix(".pub"), public_pem(private.public_key()).encode())
    except FileExistsError as error:
        raise StorageError(
            f"{error.filename2} is there already and is not overwritten; choose another name"
        ) from error
    except OSError as error:
        raise _not_written(path, error) from error
    return show_key(path)


def show_key(key: str | Path | None = None) -> KeyInfo:
    """Key id and public half of one key; asks for no passphrase where the public half lies beside."""
    path = key_path(key)
    beside, locked = path.with_suffix(".pub"), is_locked(path)
    if beside.is_file():
        public = public_key(_read(beside).decode(errors="replace"), str(beside))
    else:
        public = _private(path, None).public_key()
    return KeyInfo(
        name=path.stem, path=str(path), keyid=key_id(public), public_key=public_pem(public), locked=locked
    )


def list_keys() -> list[KeyInfo]:
    """All keys under ``M2KT_HOME/keys``."""
    return [show_key(path) for path in sorted(_folder().glob("*.pem"))]


def is_locked(path: Path) -> bool:
    """Whether the key needs a passphrase."""
    return b"ENCRYPTED" in _read(path).split(b"\n", 1)[0]


def read_signer(path: Path, passphrase: str | None = None) -> CryptoSigner:
    """A private key, ready to sign. Without ``passphrase``, that of the environment is tried.

    Raises:
        StorageError: no key there, of another kind, locked, or the passphrase is wrong.
    """
    return CryptoSigner(_private(path, passphrase))


def public_key(pem: str, where: str) -> Ed25519PublicKey:
    """An Ed25519 public key from its PEM."""
    try:
        public = load_pem_public_key(pem.encode())
    except Exception as error:  # cryptography has several ways to say so
        raise StorageError(f"{where}: expected a public key in PEM: {error}") from error
    if not isinstance(public, Ed25519PublicKey):
        raise StorageError(f"{where}: expected an Ed25519 public key, came {type(public).__name__}")
    return public


def public_pem(public: Ed25519PublicKey) -> str:
    """PEM of a public key."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_id(public: Ed25519PublicKey) -> str:
    """The one id of a public key."""
    return str(SSlibKey.from_crypto(public).keyid)


def _folder() -> Path:
    return m2kt_home() / "keys"


def _private(path: Path, passphrase: str | None) -> Ed25519PrivateKey:
    content, secret = _read(path), None
    if is_locked(path):
        secret = passphrase or os.environ.get(PASSPHRASE)
        if not secret:
            raise StorageError(f"the signing key {path} is locked: expected its passphrase in {PASSPHRASE}")
    try:
        private = load_pem_private_key(content, password=secret.encode() if secret else None)
    except (ValueError, TypeError) as error:
        advice = "the passphrase is wrong; try again" if secret else "move it away to have a new one"
        raise StorageError(f"cannot read the signing key {path}: {explain(error)}; {advice}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise StorageError(f"{path}: expected an Ed25519 private key, came {type(private).__name__}")
    return private


def _pem(private: Ed25519PrivateKey, passphrase: str | None) -> bytes:
    lock = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def _not_written(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write the signing key {path}: {explain(error)}; set M2KT_HOME to a writable directory"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"cannot read the signing key {path}: {explain(error)}; m2kt keys list shows what there is"
        ) from error


def _write_once(path: Path, content: bytes) -> None:
    """Whole or not at all, and never over a file that is there: a lost key is lost for good."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError as error:
        raise NotADirectoryError(error.errno, "not a directory", str(path.parent)) from error
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem}-", delete=False) as aside:
        os.fchmod(aside.fileno(), 0o600)
        aside.write(content)
        aside.flush()
        os.fsync(aside.fileno())
    try:
        os.link(aside.name, path)
    finally:
        Path(aside.name).unlink()
