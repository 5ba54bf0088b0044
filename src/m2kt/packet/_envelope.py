"""The shape of ``signature.json``, judged before any cryptography: a DSSE envelope with nothing beside it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m2kt.errors import PacketError

from ._json import check_canonical, parse_json

MAX_SIGNATURES = 16


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EnvelopeSignature(_Model):
    """One signature over the payload."""

    keyid: str = Field(pattern=r"^[0-9a-f]{64}$", description="Id of the key, as the payload names it.")
    sig: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$", description="Ed25519 signature, base64.")]


class Envelope(_Model):
    """``signature.json``: a DSSE envelope over an in-toto statement."""

    payload: str = Field(
        pattern=r"^[A-Za-z0-9+/]+={0,2}$", description="The statement's canonical JSON, base64."
    )
    payloadType: str = Field(pattern=r"^application/vnd\.in-toto\+json$", description="What the payload is.")
    signatures: list[EnvelopeSignature] = Field(
        min_length=1, max_length=MAX_SIGNATURES, description="By different keys."
    )


def parse_envelope(raw: bytes, where: str) -> Envelope:
    """The envelope, if it has exactly the known fields in canonical form."""
    what = f"{where}: signature.json"
    data = parse_json(raw, what)
    try:
        envelope = Envelope.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"])) or "its top"
        raise PacketError(
            f"{what} is no DSSE envelope at {at}: {first['msg']}; the packet is damaged"
        ) from error
    check_canonical(raw, lambda: envelope.model_dump(mode="json"), what)
    if len({s.keyid for s in envelope.signatures}) != len(envelope.signatures):
        raise PacketError(f"{what} holds two signatures of one key; expected one")
    return envelope
