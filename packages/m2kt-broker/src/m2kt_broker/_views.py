"""JSON views of catalogue rows; scripts and pages depend on their fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from ._records import State
from ._trusted import Trusted
from .catalogue import PacketRow, StatementRow, Verdicts, revoked_among, sources_of, verdict_counts


class KeyEntry(TypedDict):
    """An API key as ``m2kt broker keys list`` prints it."""

    id: str
    name: str
    role: str
    created_at: str
    ended_at: str | None


class View(BaseModel):
    """Base class of all response bodies."""

    model_config = ConfigDict(extra="forbid")


class SignerView(View):
    """A key that signed a packet or a statement."""

    keyid: str
    writer: bool = Field(description="Whether the packet names this key as its author's.")
    owner: str | None = Field(description="Owner in the broker's trust policy; null for a key that it lacks.")


class PacketView(View):
    """The fields of a packet that lists show."""

    digest: str
    skill: str
    description: str
    teacher: str
    teacher_digest: str
    licence: str | None
    space: str = Field(description="Teacher digest and layer; only vectors of one space can be compared.")
    concepts: int
    verbalised: float
    fidelity: float | None = Field(description="Agreement times coverage, on prompts that extraction did not use.")
    size: int = Field(description="Size of the single-file form in bytes.")
    etag: str = Field(description="Digest of the single-file form.")
    state: State
    state_reason: str | None
    state_at: str | None
    revoked_sources: list[str] = Field(
        description="Digests of packets that it was merged from and that are revoked: do not use it, unmerge them."
    )
    published_at: str
    publisher: str
    signers: list[SignerView]
    verdicts: dict[str, int] = Field(
        description="Number of statements for each verdict, of those that auditors of the trust policy signed."
    )
    auditors: list[str] = Field(description="Owners of the keys behind these verdicts.")
    uncounted: int = Field(description="Number of statements with a verdict that does not count.")


class StatementView(View):
    """The main fields of a signed statement; another route returns its envelope."""

    digest: str
    kind: str
    at: str
    by: str = Field(description="Name of the API key that uploaded it.")
    verdict: str | None
    counts: bool = Field(description="Whether auditors of the trust policy signed it.")
    student: str | None
    student_digest: str | None
    adapter: str | None = Field(description="Digest of the adapter that an ingestion wrote.")
    accuracy: float | None
    signers: list[SignerView]


class PacketList(View):
    """One page of a list of packets."""

    packets: list[PacketView]
    next: str | None = Field(description="Cursor of the next page; null on the last page.")


def packet_views(session: Session, rows: Sequence[PacketRow], trusted: Trusted) -> list[PacketView]:
    """Views of several packets; one query counts the verdicts of all.

    Args:
        trusted: owners of signing keys, and whose verdicts count.
    """
    verdicts = verdict_counts(session, [row.digest for row in rows], trusted)
    revoked = revoked_among(session, {digest for row in rows for digest in sources_of(row)})
    return [
        _packet_view(row, verdicts[row.digest], [d for d in sources_of(row) if d in revoked], trusted) for row in rows
    ]


def packet_view(session: Session, row: PacketRow, trusted: Trusted) -> PacketView:
    """View of one packet."""
    return packet_views(session, [row], trusted)[0]


def _packet_view(row: PacketRow, verdicts: Verdicts, revoked_sources: list[str], trusted: Trusted) -> PacketView:
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
        revoked_sources=revoked_sources,
        published_at=row.published_at,
        publisher=row.publisher,
        signers=[SignerView(keyid=s.keyid, writer=s.writer, owner=trusted.owners.get(s.keyid)) for s in row.signers],
        verdicts=verdicts.counted,
        auditors=sorted({trusted.owners[keyid] for keyid in verdicts.auditors}),
        uncounted=verdicts.uncounted,
    )


def statement_view(row: StatementRow, trusted: Trusted) -> StatementView:
    """View of one statement."""
    return StatementView(
        digest=row.digest,
        kind=row.kind,
        at=row.at,
        by=row.by,
        verdict=row.verdict,
        counts=trusted.counts(row.keyids),
        student=row.student,
        student_digest=row.student_digest,
        adapter=row.adapter,
        accuracy=row.accuracy,
        signers=[SignerView(keyid=k, writer=False, owner=trusted.owners.get(k)) for k in row.keyids],
    )
