"""Records: one small JSON file for each event, written to the store once and never changed.

The database is a function of the records and of the packets that they name, in whatever order they are read. So it can
be deleted and rebuilt (``m2kt broker reindex``), and the next start repairs a crash between store and database.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from m2kt.packet import canonical_json

Role = Literal["reader", "publisher", "admin"]
State = Literal["listed", "yanked", "revoked"]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """Whether text is one line without control characters, lone surrogates and bidirectional controls."""
    return _CONTROL.search(text) is None


def _check_plain(text: str) -> str:
    if not is_plain(text):
        raise ValueError("expected one line without control characters")
    return text


PlainText = Annotated[str, AfterValidator(_check_plain)]
"""Text of a request that is safe to store in a database and to print in a terminal."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    at: str = Field(
        default_factory=lambda: datetime.now(UTC).isoformat(), description="Time of the event: UTC, ISO 8601."
    )
    by: str = Field(description="Name of the API key that caused the event.")

    def to_bytes(self) -> bytes:
        """The stored form."""
        return canonical_json(self.model_dump(mode="json"))


class PacketPublished(_Record):
    """A packet was uploaded, verified, and accepted by the trust policy."""

    kind: Literal["published"] = "published"
    packet: Digest
    blob: Digest = Field(description="Digest of the single-file form; every added signature changes it.")
    size: int = Field(description="Size of the single-file form in bytes.")
    trusted: bool | None = Field(description="Verdict of the trust policy at that time; null without a policy.")


class StatementAdded(_Record):
    """A signed statement about a packet was uploaded and verified."""

    kind: Literal["stated"] = "stated"
    packet: Digest
    envelope: str = Field(description="The signed envelope, byte for byte.")


class StateChanged(_Record):
    """A packet was listed, yanked or revoked; a revocation is permanent."""

    kind: Literal["noticed"] = "noticed"
    packet: Digest
    state: State
    reason: str
    envelope: str | None = Field(default=None, description="The signed notice; records of earlier releases have none.")
    by_admin: bool = Field(default=True, description="Whether an admin caused it, and not the packet's author.")


class KeyCreated(_Record):
    """An API key was created; only the digest of its random secret is stored."""

    kind: Literal["key-made"] = "key-made"
    id: str
    name: str
    role: Role
    sha256: str


class KeyEnded(_Record):
    """An API key was ended."""

    kind: Literal["key-ended"] = "key-ended"
    id: str


Record = PacketPublished | StatementAdded | StateChanged | KeyCreated | KeyEnded
_RECORDS: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def parse_record(content: bytes) -> Record:
    """Parse a record. Raises ValueError for anything else."""
    return _RECORDS.validate_json(content)


def digest_of(content: bytes) -> str:
    """The digest of bytes, ``sha256:...``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
