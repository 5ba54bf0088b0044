"""A DSSE envelope over an in-toto Statement, signed by one or more Ed25519 keys.

Every signature is checked by anyone: a signer's public key travels beside the signature, unsigned, and needs no
signature of its own, because the key id is its digest. The writer of a packet stands in the signed predicate instead.
So signatures can be added without a change of the payload. Whom to trust is a question for a policy.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from m2kt.errors import PacketError

from ._manifest import canonical_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_SIGNATURES = 64

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Sealed:
    """A statement all of whose signatures hold."""

    predicate_type: str
    subjects: dict[str, str]
    """sha256 by name."""
    predicate: dict[str, Any]
    keyids: tuple[str, ...]
    """Who signed, in order of key ids. Valid signatures, nothing more: trust comes from a policy alone."""
    writer: str | None
    """The key that the predicate itself names, which must be among the signers."""


def seal(predicate_type: str, subjects: dict[str, str], predicate: dict[str, Any], by: CryptoSigner) -> bytes:
    """A statement with its first signature."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    envelope = Envelope(canonical_json(statement), PAYLOAD_TYPE, {})
    _sign(envelope, by, _writer(predicate))
    return _canonical(envelope)


def add_signature(content: bytes, by: CryptoSigner, where: str) -> bytes:
    """The same statement with one more signature.

    Raises:
        PacketError: the key has signed it already, or what is there does not hold.
    """
    sealed = unseal(content, where)
    if by.public_key.keyid in sealed.keyids:
        raise PacketError(f"{where} is signed by {by.public_key.keyid} already; nothing was changed")
    if len(sealed.keyids) >= MAX_SIGNATURES:
        raise PacketError(f"{where} has {MAX_SIGNATURES} signatures, the most allowed; nothing was changed")
    envelope = Envelope.from_dict(json.loads(content))
    _sign(envelope, by, sealed.writer)
    return _canonical(envelope)


def unseal(content: bytes, where: str, *, expected: str | None = None) -> Sealed:
    """Open an envelope; every signature in it must hold.

    Args:
        expected: the predicate type; a statement of another type is refused however well it is signed.

    Raises:
        PacketError: not an envelope, of another type, not canonical, signed twice by one key, or a false signature.
    """
    try:
        envelope = Envelope.from_dict(json.loads(content))
        statement = json.loads(envelope.payload)
        kind, predicate_type = (envelope.payload_type, statement["_type"]), statement["predicateType"]
        subjects = [(s["name"], s["digest"]["sha256"]) for s in statement["subject"]]
        predicate = dict(statement["predicate"])
        writer = _writer(predicate)
        # only one way of writing it is accepted: no slack bits, spaces or extra keys to play with
        canonical = _canonical(envelope) == content and canonical_json(statement) == envelope.payload
    except Exception as error:  # any failure to parse means the same
        raise PacketError(f"{where} is no DSSE envelope ({error}); it is damaged") from error
    if kind != (PAYLOAD_TYPE, STATEMENT_TYPE) or expected not in (None, predicate_type):
        what = f"{' '.join(map(str, kind))} {predicate_type}"
        raise PacketError(f"{where} signs something else than a {expected or 'statement'}: {what}")
    if not canonical:
        raise PacketError(f"{where} is not in canonical form; it was edited")
    if len(dict(subjects)) != len(subjects) or not all(_SHA256.fullmatch(str(d)) for _, d in subjects):
        raise PacketError(f"{where}: expected every subject once, with its sha256")
    if not 0 < len(envelope.signatures) <= MAX_SIGNATURES:
        raise PacketError(
            f"{where}: expected 1 to {MAX_SIGNATURES} signatures, came {len(envelope.signatures)}"
        )
    if writer is not None and writer not in envelope.signatures:
        raise PacketError(f"{where}: the signature of its writer {writer} does not verify: it is not there")
    for keyid in envelope.signatures:
        _check_signature(envelope, keyid, predicate["key"] if keyid == writer else None, where)
    return Sealed(predicate_type, dict(subjects), predicate, tuple(sorted(envelope.signatures)), writer)


def _check_signature(envelope: Envelope, keyid: str, key: dict[str, Any] | None, where: str) -> None:
    signature = envelope.signatures[keyid]
    beside = signature.unrecognized_fields
    try:
        if key is not None:
            data = {name: value for name, value in key.items() if name != "keyid"}
            public = SSlibKey.from_dict(keyid, json.loads(json.dumps(data)))
            if (public.keytype, public.scheme) != ("ed25519", "ed25519") or beside:
                raise ValueError(
                    f"expected an ed25519 signature, came {public.keytype}/{public.scheme} {beside}"
                )
            same = SSlibKey.from_crypto(public._crypto_key())
        else:
            raw = beside.get("public")
            if beside.keys() != {"public"} or not isinstance(raw, str) or not _SHA256.fullmatch(raw):
                raise ValueError(
                    f"expected the signer's public key in 'public', 64 hex digits, came {sorted(beside)}"
                )
            same = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw)))
        if same.keyid != keyid:
            raise ValueError(f"the key id {keyid} does not belong to its key")
        same.verify_signature(signature, envelope.pae())
    except Exception as error:  # securesystemslib has many ways to say that it is not a signature
        raise PacketError(f"{where}: the signature does not verify ({error}); do not use it") from error


def _sign(envelope: Envelope, by: CryptoSigner, writer: str | None) -> None:
    signature = envelope.sign(by)
    if signature.keyid != writer:
        signature.unrecognized_fields["public"] = by.public_key.keyval["public"]


def _writer(predicate: dict[str, Any]) -> str | None:
    return str(predicate["key"]["keyid"]) if "key" in predicate else None


def _canonical(envelope: Envelope) -> bytes:
    data = envelope.to_dict()
    data["signatures"].sort(key=lambda signature: str(signature["keyid"]))
    return canonical_json(data)
