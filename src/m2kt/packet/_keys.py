"""Key files: Ed25519 private keys as PEM under ``M2KT_HOME/keys``, readable by their owner only, never overwritten.

The public key is stored as ``NAME.pub``, so that a locked key can be shown without its passphrase.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
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
"""Environment variable with the passphrase of a locked key."""

_FIELD = 2**255 - 19
_OF_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = {0, 1, _FIELD - 1, _OF_ORDER_8, _FIELD - _OF_ORDER_8}
"""Of the eight points whose order divides eight, the y coordinates."""
_LOCKED = re.compile(rb"^(-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: 4,ENCRYPTED)", re.MULTILINE)
"""Other lines may stand before it: openssl writes "Bag Attributes"."""
MAX_KEY_BYTES = 64 << 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class KeyInfo(BaseModel):
    """The public part of a key."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Name of the key.")
    path: str = Field(description="Its file.")
    keyid: str = Field(description="sha256 of the public key in securesystemslib's canonical form.")
    public_key: str = Field(description="PEM, for a trust policy.")
    locked: bool = Field(description="Whether a passphrase protects the private key.")


def key_path(key: str | Path | None = None) -> Path:
    """The file of a key given by path or by name; the local key by default. A name has no ``/`` and no ``.pem``."""
    if key is None:
        return _folder() / f"{LOCAL}.pem"
    if isinstance(key, Path) or not _NAME.fullmatch(key) or Path(key).suffix == ".pem":
        return Path(key)
    return _folder() / f"{key}.pem"  # also where a file of that name is at hand: whoever sent a folder chose its names


def local_key(path: Path | None = None) -> Path:
    """The local Ed25519 key, created when it is first used, readable by its owner only."""
    path = path or key_path()
    if not path.is_file():
        try:
            _write_once(path, _pem(Ed25519PrivateKey.generate(), None))
        except FileExistsError:
            pass  # another process created it first
        except OSError as error:
            raise _not_written(path, error) from error
    return path


def new_key(name: str, passphrase: str | None = None) -> KeyInfo:
    """Create a key called ``name``.

    Raises:
        StorageError: the name exists or is no file name, or the disk refused.
    """
    if not _NAME.fullmatch(name):
        raise StorageError(f"expected a key name of letters, digits, '.', '_' and '-', got {name!r}")
    path, private = _folder() / f"{name}.pem", Ed25519PrivateKey.generate()
    try:
        _write_once(path, _pem(private, passphrase))
        _write_once(path.with_suffix(".pub"), public_pem(private.public_key()).encode())
    except FileExistsError as error:
        raise StorageError(f"{error.filename2} exists and is not overwritten; choose another name") from error
    except OSError as error:
        raise _not_written(path, error) from error
    return show_key(path)


def show_key(key: str | Path | None = None) -> KeyInfo:
    """Key id and public key of one key.

    Needs no passphrase where ``NAME.pub`` exists: that file of a locked key is believed until the key signs.
    """
    path = key_path(key)
    locked, named = is_locked(path), _named_public(path)
    public = named if locked and named is not None else _private(path, None).public_key()
    return KeyInfo(name=path.stem, path=str(path), keyid=key_id(public), public_key=public_pem(public), locked=locked)


def list_keys() -> list[KeyInfo]:
    """All keys under ``M2KT_HOME/keys``; what is no key of ours is left out."""
    return [key for key in _listed().values() if isinstance(key, KeyInfo)]


def foreign_keys() -> list[str]:
    """Why files under ``M2KT_HOME/keys`` are no keys of ours, one reason for each."""
    return [str(error) for error in _listed().values() if isinstance(error, StorageError)]


def _listed() -> dict[Path, KeyInfo | StorageError]:
    listed: dict[Path, KeyInfo | StorageError] = {}
    for path in sorted(_folder().glob("*.pem")):
        try:
            listed[path] = show_key(path)
        except StorageError as error:
            listed[path] = error
    return listed


def is_locked(path: Path) -> bool:
    """Whether the key needs a passphrase."""
    return _LOCKED.search(_read(path)) is not None


def read_signer(path: Path, passphrase: str | None = None) -> CryptoSigner:
    """A private key, ready to sign. The default passphrase is that of the environment.

    Raises:
        StorageError: no key at ``path``, of another kind, locked, or the passphrase is wrong.
    """
    return CryptoSigner(_private(path, passphrase))


def public_key(pem: str, where: str) -> Ed25519PublicKey:
    """An Ed25519 public key from its PEM."""
    try:
        public = load_pem_public_key(pem.encode())
    except Exception as error:  # cryptography raises several types
        raise StorageError(f"{where}: expected a public key in PEM: {error}") from error
    if not isinstance(public, Ed25519PublicKey):
        raise StorageError(f"{where}: expected an Ed25519 public key, got {type(public).__name__}")
    if is_weak(public.public_bytes_raw()):
        raise StorageError(f"{where}: anybody can sign for this key (a point of small order); expected another")
    return public


def is_weak(public: bytes) -> bool:
    """Whether 32 bytes are a point of small order, for which signatures are made without a private key, or no canonical
    encoding of a point."""
    y = int.from_bytes(public, "little") & ~(1 << 255)
    return y >= _FIELD or y in _SMALL_ORDER


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
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        advice = "the passphrase is wrong; try again" if secret else "move it away, and a new one is created"
        raise StorageError(f"cannot read the signing key {path}: {explain(error)}; {advice}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise StorageError(f"{path}: expected an Ed25519 private key, got {type(private).__name__}")
    named = _named_public(path)
    if named is not None and named.public_bytes_raw() != private.public_key().public_bytes_raw():
        raise StorageError(
            f"expected the public key of {path} in {path.with_suffix('.pub')}, got another; delete that file, and "
            "trust no policy that was written from it"
        )
    return private


def _named_public(path: Path) -> Ed25519PublicKey | None:
    """The public key beside a private one, which is another's where somebody exchanged it; None without one."""
    file = path.with_suffix(".pub")
    return public_key(_read(file).decode(errors="replace"), str(file)) if file.is_file() else None


def _pem(private: Ed25519PrivateKey, passphrase: str | None) -> bytes:
    lock = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def _not_written(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write the signing key {path}: {explain(error)}; set M2KT_HOME to a writable directory")


def _read(path: Path) -> bytes:
    try:
        if not path.is_file() and path.exists():
            raise OSError(0, "it is no regular file")
        with open(path, "rb") as file:
            content = file.read(MAX_KEY_BYTES + 1)
        if len(content) > MAX_KEY_BYTES:
            raise OSError(0, f"it has more than {MAX_KEY_BYTES} bytes")
        return content
    except OSError as error:
        raise StorageError(
            f"cannot read the signing key {path}: {explain(error)}; m2kt keys list shows all keys"
        ) from error


def _write_once(path: Path, content: bytes) -> None:
    """Write the whole file or nothing, and never over an existing file: a lost key cannot be replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError as error:
        raise NotADirectoryError(error.errno, "not a directory", str(path.parent)) from error
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem}-", delete=False) as temporary:
        os.fchmod(temporary.fileno(), 0o600)
        temporary.write(content)
        temporary.flush()
        os.fsync(temporary.fileno())
    try:
        os.link(temporary.name, path)
    finally:
        Path(temporary.name).unlink()
