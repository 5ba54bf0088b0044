"""A DSSE envelope over an in-toto Statement, signed by one or more Ed25519 keys.

A signer's public key travels beside the signature. It is not signed itself, because the key id is its digest; the
writer's key is in the signed predicate instead. So anyone can verify, and signatures can be added without a change of
the payload. Whether a signer is trusted is decided by a policy.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from securesystemslib.dsse import Envelope as Dsse
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from m2kt.errors import PacketError, explain

from ._json import JSONObject, canonical_json, check_canonical, parse_json
from ._keys import is_weak

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_SIGNATURES = 16

_SHA256 = re.compile(r"[0-9a-f]{64}")
_Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EnvelopeSignature(_Model):
    """One signature over the payload."""

    keyid: _Hex = Field(description="Id of the key: the digest of its canonical JSON.")
    public: _Hex | None = Field(None, description="The public key; left out where the payload holds it.")
    sig: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$", description="Ed25519 signature, base64.")]


class Envelope(_Model):
    """A DSSE envelope over an in-toto statement."""

    payload: str = Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$", description="The statement's canonical JSON, base64.")
    payloadType: str = Field(pattern=r"^application/vnd\.in-toto\+json$", description="Media type of the payload.")
    signatures: list[EnvelopeSignature] = Field(
        min_length=1, max_length=MAX_SIGNATURES, description="One for each key, in order of key ids."
    )


@dataclass(frozen=True)
class Sealed:
    """A statement whose signatures are all valid."""

    predicate_type: str
    subjects: dict[str, str]
    """sha256 by name."""
    predicate: JSONObject
    keyids: tuple[str, ...]
    """Signers, in order. A valid signature does not mean a trusted signer: see :class:`TrustPolicy`."""
    writer: str | None
    """The key in the predicate, which is among the signers."""


def seal(predicate_type: str, subjects: dict[str, str], predicate: JSONObject, signer: CryptoSigner) -> bytes:
    """A statement with its first signature."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    return _signed(Dsse(canonical_json(statement), PAYLOAD_TYPE, {}), signer, _writer(predicate))


def add_signature(content: bytes, signer: CryptoSigner, where: str) -> bytes:
    """The same statement with one more signature.

    Raises:
        PacketError: the key has signed it already, or a signature is invalid.
    """
    sealed = unseal(content, where)
    if signer.public_key.keyid in sealed.keyids:
        raise PacketError(f"{where} is signed by {signer.public_key.keyid} already; nothing was changed")
    if len(sealed.keyids) >= MAX_SIGNATURES:
        raise PacketError(f"{where} has {MAX_SIGNATURES} signatures, the most allowed; nothing was changed")
    return _signed(Dsse.from_dict(json.loads(content)), signer, sealed.writer)


def merge_envelopes(first: bytes, second: bytes, where: str) -> bytes | None:
    """One statement with the signatures of both envelopes; None where they hold different statements.

    Raises:
        PacketError: a signature is invalid, or they are more than allowed together.
    """
    unseal(first, where), unseal(second, where)
    dsse, other = Dsse.from_dict(json.loads(first)), Dsse.from_dict(json.loads(second))
    if dsse.payload != other.payload:
        return None
    dsse.signatures = {**other.signatures, **dsse.signatures}
    if len(dsse.signatures) > MAX_SIGNATURES:
        raise PacketError(f"{where} would have more than the {MAX_SIGNATURES} signatures allowed")
    return canonical_json(_sorted(dsse))


def unseal(content: bytes, where: str, *, expected: str | None = None) -> Sealed:
    """Open an envelope and verify every signature in it.

    Args:
        expected: the predicate type; a statement of another type is refused.

    Raises:
        PacketError: not an envelope, of another type, not canonical, signed twice by one key, or an invalid signature.
    """
    dsse = _parse(content, where)
    statement = parse_json(dsse.payload, f"{where}: its payload")
    try:
        type_, predicate_type = str(statement["_type"]), str(statement["predicateType"])
        subjects = [(str(s["name"]), str(s["digest"]["sha256"])) for s in statement["subject"]]
        predicate = dict(statement["predicate"])
        writer = _writer(predicate)
        canonical = canonical_json(statement) == dsse.payload  # no other spaces and no extra keys
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PacketError(f"{where} signs no in-toto statement ({error!r}); it is damaged") from error
    if type_ != STATEMENT_TYPE or expected not in (None, predicate_type):
        raise PacketError(f"{where} expected a signed {expected or 'statement'}, got {type_} {predicate_type}")
    if not canonical:
        raise PacketError(f"{where}: its payload is not in canonical form; the packet was edited")
    if len(dict(subjects)) != len(subjects) or not all(_SHA256.fullmatch(d) for _, d in subjects):
        raise PacketError(f"{where}: expected every subject once, with its sha256")
    if writer is not None and writer not in dsse.signatures:
        raise PacketError(f"{where}: the signature of its writer {writer} does not verify: it is missing")
    for keyid in dsse.signatures:
        _verify(dsse, keyid, predicate["key"] if keyid == writer else None, where)
    return Sealed(predicate_type, dict(subjects), predicate, tuple(sorted(dsse.signatures)), writer)


def _parse(content: bytes, where: str) -> Dsse:
    """The envelope, if it has exactly the known fields in canonical form; checked before any signature."""
    try:
        envelope = Envelope.model_validate(parse_json(content, where))
    except ValidationError as error:
        raise PacketError(f"{where} is no DSSE envelope ({explain(error)}); it is damaged") from error
    keyids = [signature.keyid for signature in envelope.signatures]
    if len(set(keyids)) < len(keyids):
        raise PacketError(f"{where} holds two signatures of one key; expected one")
    try:
        dsse = Dsse.from_dict(envelope.model_dump(exclude_none=True))
    except Exception as error:  # invalid base64; securesystemslib does not document what it raises
        raise PacketError(f"{where} is no DSSE envelope ({error}); it is damaged") from error
    check_canonical(content, lambda: _sorted(dsse), where)  # decoded and encoded again: no spare bits of base64
    return dsse


def _verify(dsse: Dsse, keyid: str, key: JSONObject | None, where: str) -> None:
    """Verify one signature, by the ``key`` in the payload, or by the key beside the signature if there is none."""
    signature = dsse.signatures[keyid]
    public = signature.unrecognized_fields.get("public")
    if (key is None) == (public is None):
        raise PacketError(
            f"{where}: expected the public key of {keyid} {'beside its signature' if public is None else 'once'}"
        )
    try:
        public_hex = str(key["keyval"]["public"] if key is not None else public)
        if is_weak(bytes.fromhex(public_hex)):
            raise ValueError(f"anybody can sign for the key {keyid}, a point of small order")
        parsed = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex)))
        if parsed.keyid != keyid or key not in (None, {"keyid": keyid, **parsed.to_dict()}):
            raise ValueError(f"the key id {keyid} does not belong to its key")
        parsed.verify_signature(signature, dsse.pae())
    except Exception as error:  # securesystemslib raises several types for an invalid signature
        raise PacketError(f"{where}: the signature does not verify ({error}); do not use it") from error


def _writer(predicate: JSONObject) -> str | None:
    return str(predicate["key"]["keyid"]) if "key" in predicate else None


def _signed(dsse: Dsse, signer: CryptoSigner, writer: str | None) -> bytes:
    signature = dsse.sign(signer)
    if signature.keyid != writer:
        signature.unrecognized_fields["public"] = signer.public_key.keyval["public"]
    return canonical_json(_sorted(dsse))


def _sorted(dsse: Dsse) -> JSONObject:
    data: JSONObject = dsse.to_dict()
    data["signatures"].sort(key=lambda signature: str(signature["keyid"]))
    return data
