"""What storage remembers beside the bytes of packets: one small file an event, written once and never changed.

The database is a function of these records and of the packets they name, whatever order they are read in. That is
why it can be deleted (``m2kt broker reindex``), and why a crash between the two mends itself at the next start.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from m2kt.packet import canonical_json

Role = Literal["reader", "publisher", "admin"]
State = Literal["listed", "yanked", "revoked"]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    at: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(), description="UTC, ISO 8601.")
    by: str = Field(description="Name of the API key; for people.")

    def to_bytes(self) -> bytes:
        """As it lies in storage."""
        return canonical_json(self.model_dump(mode="json"))


class Published(_Record):
    """A packet arrived, was verified, and met the broker's policy."""

    kind: Literal["published"] = "published"
    packet: Digest
    blob: Digest = Field(description="Of the single-file form; changes with every signature that is added.")
    size: int
    trusted: bool | None = Field(description="What the policy said then; null where there was none.")


class Stated(_Record):
    """Somebody said something about a packet, signed."""

    kind: Literal["stated"] = "stated"
    packet: Digest
    envelope: str = Field(description="The signed statement as it came.")


class Noticed(_Record):
    """A packet's state was changed. Revoked is for ever."""

    kind: Literal["noticed"] = "noticed"
    packet: Digest
    state: State
    reason: str


class KeyMade(_Record):
    """An API key: what is kept is the digest of a random secret, which nobody can turn round."""

    kind: Literal["key-made"] = "key-made"
    id: str
    name: str
    role: Role
    sha256: str


class KeyEnded(_Record):
    """An API key that opens nothing any more."""

    kind: Literal["key-ended"] = "key-ended"
    id: str


Record = Published | Stated | Noticed | KeyMade | KeyEnded
_READER: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def parse_record(content: bytes) -> Record:
    """A record from its bytes; raises ValueError on what is none."""
    return _READER.validate_json(content)


def digest_of(content: bytes) -> str:
    """``sha256:...``, the name of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
