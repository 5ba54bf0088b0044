"""Signed statements about a packet: evaluations, verdicts, receipts, notices. Each names the packet by its digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from m2kt.errors import PacketError, explain

from ._envelope import seal, unseal
from ._json import JSONObject
from ._keys import local_key, read_signer

EVALUATION = "urn:m2kt:evaluation:v1"
VERDICT = "urn:m2kt:verdict:v1"
RECEIPT = "urn:m2kt:receipt:v1"
NOTICE = "urn:m2kt:notice:v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
SVR = "https://in-toto.io/attestation/svr/v0.1"
STATEMENTS = (EVALUATION, VERDICT, RECEIPT, NOTICE, TEST_RESULT, SVR)
MAX_STATEMENT_BYTES = 16 << 20

_SHA256 = "sha256:"


@dataclass(frozen=True)
class Statement:
    """A verified statement about a packet."""

    predicate_type: str
    packet: str
    """Digest of the packet, ``sha256:...``."""
    name: str
    """Name of the packet, according to the signer."""
    predicate: JSONObject
    keyids: tuple[str, ...]


def sign_statement(
    predicate_type: str,
    packet: str,
    predicate: JSONObject,
    *,
    name: str = "packet",
    key: Path | CryptoSigner | None = None,
) -> bytes:
    """A statement about the packet with digest ``packet``, signed by ``key``, by default the local one.

    Raises:
        PacketError: an unknown type of statement, or an invalid digest.
        StorageError: the key cannot be used.
    """
    if predicate_type not in STATEMENTS:
        raise PacketError(f"expected a statement of type {' or '.join(STATEMENTS)}, got {predicate_type}")
    if not packet.startswith(_SHA256):
        raise PacketError(f"expected a packet digest sha256:..., got {packet!r}")
    if "key" in predicate:  # the name of the writer's key in an envelope
        raise PacketError("expected no member called 'key' in a statement's predicate; rename it")
    signer = key if isinstance(key, CryptoSigner) else read_signer(local_key(key))
    content = seal(predicate_type, {name: packet.removeprefix(_SHA256)}, predicate, signer)
    verify_statement(content)
    return content


def verify_statement(
    content: bytes, where: str = "statement", *, expected: str | None = None, packet: str | None = None
) -> Statement:
    """Open a statement and verify its signatures. Whether to trust the signers: :func:`judge_statement`.

    Args:
        expected: the type it must have.
        packet: digest of the packet that it must be about.

    Raises:
        PacketError: damaged, edited, of another type, or about another packet.
    """
    if len(content) > MAX_STATEMENT_BYTES:
        raise PacketError(f"{where} has {len(content)} bytes, more than the {MAX_STATEMENT_BYTES} allowed")
    sealed = unseal(content, where, expected=expected)
    if sealed.predicate_type not in STATEMENTS:
        raise PacketError(
            f"{where}: expected a statement of type {' or '.join(STATEMENTS)}, got {sealed.predicate_type}"
        )
    if len(sealed.subjects) != 1:
        raise PacketError(f"{where}: expected one packet as its subject, got {len(sealed.subjects)}")
    name, digest = next(iter(sealed.subjects.items()))
    if packet is not None and _SHA256 + digest != packet:
        raise PacketError(f"{where} is about the packet {_SHA256}{digest}, expected {packet}")
    return Statement(sealed.predicate_type, _SHA256 + digest, name, sealed.predicate, sealed.keyids)


def read_statement(path: str | Path) -> bytes:
    """The bytes of a statement's file, one more than the limit at most."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_STATEMENT_BYTES + 1)
    except OSError as error:
        raise PacketError(f"cannot read the statement {path}: {explain(error)}") from error
