"""Encrypt and decrypt: a signed packet for named recipients, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from m2kt.errors import SpecError
from m2kt.packet import ENCRYPTED_SUFFIX, Packet
from m2kt.packet import encrypt as encrypt_bytes
from m2kt.pipeline._statements import write_file
from m2kt.remote import open_packet


class Encrypted(BaseModel):
    """A packet that was encrypted or decrypted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="The file that was written.")
    packet: str = Field(description="Digest of the packet in it.")
    signers: list[str] = Field(description="Key ids of its signers, which encryption does not change.")
    recipients: list[str] = Field(description="Who can open it; empty: anybody, it is not encrypted.")


def encrypt(packet: str | Path | Packet, to: str | Sequence[str], out: str | Path) -> Encrypted:
    """Encrypts a signed packet with age, for recipients ``age1...`` alone.

    Every verb opens such a file as any packet, with the identities in ``M2KT_HOME/keys/age.txt`` or the file that
    ``M2KT_AGE_IDENTITY`` names: signature, trust and preflight are those of the packet within.

    Args:
        to: recipients; ``m2kt keys recipient`` prints a user's.
        out: a file that ends in ``.age``.

    Raises:
        SpecError: no such recipient, another name, or ``m2kt[encrypt]`` is not installed.
        PacketError: the packet does not verify.
        StorageError: the file cannot be written.
    """
    if Path(out).suffix != ENCRYPTED_SUFFIX:
        raise SpecError(f"expected a file that ends in {ENCRYPTED_SUFFIX}, got {out}; name it so")
    recipients = [to] if isinstance(to, str) else list(to)
    opened = open_packet(packet)
    path = write_file(Path(out), encrypt_bytes(opened.file_bytes(), recipients))
    return _result(opened, path, recipients)


def decrypt(packet: str | Path, out: str | Path) -> Encrypted:
    """Writes an encrypted packet as a plain one, with its signature.

    Raises: PacketError where it is not for this user's identities, or does not verify.
    """
    opened = open_packet(packet)
    return _result(opened, opened.save(out), [])


def _result(packet: Packet, path: Path, recipients: list[str]) -> Encrypted:
    assert packet.signature is not None
    return Encrypted(path=str(path), packet=packet.digest, signers=list(packet.signature.keyids), recipients=recipients)
