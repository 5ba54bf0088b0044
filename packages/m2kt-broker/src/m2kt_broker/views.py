"""What routes answer with: the form that scripts and pages rely on."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from .catalogue import PacketRow, StatementRow, verdict_counts
from .records import State


class View(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(extra="forbid")


class SignerView(View):
    """A key that signed a packet."""

    keyid: str
    writer: bool = Field(description="Whether the packet names it as its maker.")
    owner: str | None = Field(description="As the broker's policy says; null where it names no such key.")


class PacketView(View):
    """One line of a list."""

    digest: str
    skill: str
    description: str
    teacher: str
    teacher_digest: str
    licence: str | None
    space: str = Field(description="Teacher and layer: vectors can be compared within one space only.")
    concepts: int
    verbalised: float
    fidelity: float | None = Field(
        description="Agreement times coverage, on prompts never used for extraction."
    )
    size: int = Field(description="Bytes of the single-file form.")
    etag: str = Field(description="Digest of those bytes.")
    state: State
    state_reason: str | None
    state_at: str | None
    published_at: str
    publisher: str
    signers: list[SignerView]
    verdicts: dict[str, int] = Field(description="How many statements there are with each verdict.")


class StatementView(View):
    """A signed statement, in short; its envelope has a route of its own."""

    digest: str
    kind: str
    at: str
    by: str = Field(description="Name of the API key that brought it.")
    verdict: str | None
    student: str | None
    student_digest: str | None
    adapter: str | None = Field(description="Digest of the adapter that came of it.")
    accuracy: float | None
    signers: list[SignerView]


class PacketList(View):
    """One page of a list."""

    packets: list[PacketView]
    next: str | None = Field(description="Cursor of the next page; null on the last.")


Owners = dict[str, str]
"""Key id to owner."""


def packet_views(session: Session, rows: Sequence[PacketRow], owners: Owners) -> list[PacketView]:
    """From rows, with what was said about each."""
    counts = verdict_counts(session, [row.digest for row in rows])
    return [_packet_view(row, counts[row.digest], owners) for row in rows]


def packet_view(session: Session, row: PacketRow, owners: Owners) -> PacketView:
    """From one row."""
    return packet_views(session, [row], owners)[0]


def _packet_view(row: PacketRow, verdicts: dict[str, int], owners: Owners) -> PacketView:
    return PacketView(
        digest=row.digest,
        skill=row.skill,
        description=row.description,
        teacher=row.teacher,
        teacher_digest=row.teacher_digest,
        licence=row.licence,
        space=row.space,
        concepts=row.concepts,
        verbalised=row.verbalised,
        fidelity=row.fidelity,
        size=row.size,
        etag=row.blob,
        state=row.state,
        state_reason=row.state_reason,
        state_at=row.state_at,
        published_at=row.published_at,
        publisher=row.publisher,
        signers=[SignerView(keyid=s.keyid, writer=s.writer, owner=owners.get(s.keyid)) for s in row.signers],
        verdicts=verdicts,
    )


def statement_view(row: StatementRow, owners: Owners) -> StatementView:
    """From a row."""
    return StatementView(
        digest=row.digest,
        kind=row.kind,
        at=row.at,
        by=row.by,
        verdict=row.verdict,
        student=row.student,
        student_digest=row.student_digest,
        adapter=row.adapter,
        accuracy=row.accuracy,
        signers=[SignerView(keyid=k, writer=False, owner=owners.get(k)) for k in row.keyids],
    )
