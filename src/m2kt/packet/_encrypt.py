"""Packets for named recipients: the single-file form of a signed packet, encrypted with age (https://age-encryption.org).

Whoever has no identity of a recipient learns nothing of it but its size. What is encrypted is the packet with its
signature, so a recipient verifies and examines it as any other. Needs the extra ``m2kt[encrypt]`` (pyrage).
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol

from m2kt._home import m2kt_home
from m2kt.errors import PacketError, SpecError, StorageError, explain

from ._parts import LIMITS, read_zip

ENCRYPTED_SUFFIX = ".age"
IDENTITY = "M2KT_AGE_IDENTITY"
"""Environment variable with the file of age identities, instead of ``M2KT_HOME/keys/age.txt``."""
MAX_BYTES = sum(LIMITS.values()) + (64 << 20)
"""Of an encrypted file: all parts at their limits, and what age adds."""
MAX_IDENTITY_BYTES = 64 << 10
_RECIPIENT = re.compile(r"age1[0-9a-z]{50,80}")
_SECRET = re.compile(r"AGE-SECRET-KEY-1[0-9A-Z]{50,80}")


class _Identity(Protocol):
    def to_public(self) -> object: ...


def identity_file() -> Path:
    """The file of age identities that encrypted packets are opened with."""
    named = os.environ.get(IDENTITY)
    return Path(named) if named else m2kt_home() / "keys" / "age.txt"


def local_recipient() -> str:
    """This user's recipient. The identity is made on first use, readable by its owner alone.

    Raises:
        SpecError: pyrage is not installed.
        StorageError: the file cannot be read or written.
    """
    pyrage, path = _pyrage(), identity_file()
    if not path.is_file():
        identity = pyrage.x25519.Identity.generate()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(handle, "w", encoding="ascii") as file:
                file.write(f"# public key: {identity.to_public()}\n{identity}\n")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {explain(error)}; set {IDENTITY} to another file") from error
    return str(_identities(path)[0].to_public())


def encrypt(file: bytes, recipients: Sequence[str]) -> bytes:
    """The bytes of a packet's single file for recipients (``age1...``).

    Raises:
        SpecError: no recipient, one that is none, or pyrage is not installed.
    """
    pyrage = _pyrage()
    if not recipients or (wrong := [r for r in recipients if not _RECIPIENT.fullmatch(r)]):
        raise SpecError(
            f"expected age recipients, age1..., got {wrong[0][:80] if recipients else 'none'!r}; "
            "m2kt keys recipient prints that of a user"
        )
    try:
        keys = [pyrage.x25519.Recipient.from_str(recipient) for recipient in recipients]
    except pyrage.RecipientError as error:
        raise SpecError(
            f"expected age recipients, age1..., got one that is none ({error}); ask for it again"
        ) from error
    return bytes(pyrage.encrypt(file, keys))


def read_encrypted(path: Path) -> dict[str, bytes]:
    """The parts of an encrypted packet, opened with the identities of this user.

    Raises:
        PacketError: it is not for these identities, damaged, or no packet.
        SpecError: pyrage is not installed.
        StorageError: the identities cannot be read.
    """
    pyrage = _pyrage()
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise PacketError(f"{path} has {size} bytes, more than the {MAX_BYTES} of an encrypted packet")
        content = path.read_bytes()
    except OSError as error:
        raise PacketError(f"cannot read the packet {path}: {explain(error)}") from error
    identities = _identities(identity_file())
    try:
        file = bytes(pyrage.decrypt(content, identities))
    except pyrage.DecryptError as error:
        raise PacketError(
            f"{path} cannot be opened with the identities in {identity_file()} ({error}): it is for others, or "
            f"damaged; set {IDENTITY}, or ask for one that is encrypted to m2kt keys recipient"
        ) from error
    return read_zip(io.BytesIO(file), len(file), str(path))


def _identities(path: Path) -> list[_Identity]:
    pyrage = _pyrage()
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_IDENTITY_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise StorageError(f"cannot read the age identities {path}: {explain(error)}; set {IDENTITY}") from error
    found = _SECRET.findall(text)
    if not found:
        raise StorageError(f"expected lines AGE-SECRET-KEY-1... in {path}, got none; make one with m2kt keys recipient")
    try:
        return [pyrage.x25519.Identity.from_str(secret) for secret in found]
    except pyrage.IdentityError as error:
        raise StorageError(f"expected age identities in {path}, got one that is none; restore the file") from error


def _pyrage() -> ModuleType:
    try:
        return import_module("pyrage")
    except ImportError as error:
        raise SpecError("encrypted packets need pyrage: pip install 'm2kt[encrypt]'") from error
