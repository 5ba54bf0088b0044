"""What is asked of the catalogue. The next page begins behind the last entry shown: new arrivals shift nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Select, func, or_, select, tuple_
from sqlalchemy.orm import Session

from .models import LabelRow, PacketRow, SignerRow, StatementRow

T = TypeVar("T")


@dataclass(frozen=True)
class Filters:
    """All that are given must hold."""

    skill: str | None = None
    teacher: str | None = None
    """Name or digest."""
    licence: str | None = None
    signer: str | None = None
    fidelity: float | None = None
    """At least."""
    verdict: str | None = None
    """A statement with this verdict is there."""
    state: str | None = "listed"
    """None: whatever the state."""
    label: str | None = None
    """Some label holds this text."""


def find_packets(
    session: Session, filters: Filters, limit: int, after: tuple[str, str] | None = None
) -> tuple[list[PacketRow], tuple[str, str] | None]:
    """Packets, newest first, and where the next page begins, if there is one.

    Args:
        after: ``published_at`` and digest of the last packet that was shown.
    """
    query = _filtered(select(PacketRow), filters)
    place = tuple_(PacketRow.published_at, PacketRow.digest)
    if after is not None:
        query = query.where(place < after)
    found = list(
        session.scalars(
            query.order_by(PacketRow.published_at.desc(), PacketRow.digest.desc()).limit(limit + 1)
        )
    )
    more = len(found) > limit
    found = found[:limit]
    return found, (found[-1].published_at, found[-1].digest) if more else None


def count_packets(session: Session, filters: Filters) -> int:
    """How many there are."""
    return session.scalar(_filtered(select(func.count(PacketRow.digest)), filters)) or 0


def adapters_of(session: Session, packet: str) -> list[StatementRow]:
    """Receipts of ingests that left an adapter, oldest first."""
    query = select(StatementRow).where(StatementRow.packet == packet, StatementRow.adapter.is_not(None))
    return list(session.scalars(query.order_by(StatementRow.at, StatementRow.digest)))


def siblings_of(session: Session, row: PacketRow, limit: int = 100) -> list[PacketRow]:
    """Other packets of the same teacher, newest first."""
    query = select(PacketRow).where(
        PacketRow.teacher_digest == row.teacher_digest, PacketRow.digest != row.digest
    )
    return list(session.scalars(query.order_by(PacketRow.published_at.desc(), PacketRow.digest).limit(limit)))


def labels_like(session: Session, packets: list[str], text: str, each: int = 5) -> dict[str, list[LabelRow]]:
    """Which labels of these packets hold the text: why they were found."""
    query = (
        select(LabelRow)
        .where(LabelRow.packet.in_(packets), LabelRow.folded.contains(text.casefold(), autoescape=True))
        .order_by(LabelRow.packet, LabelRow.kind, LabelRow.text)
    )
    found: dict[str, list[LabelRow]] = {digest: [] for digest in packets}
    for label in session.scalars(query):
        if len(found[label.packet]) < each:
            found[label.packet].append(label)
    return found


def _filtered(query: Select[T], filters: Filters) -> Select[T]:
    equal = {
        PacketRow.skill: filters.skill,
        PacketRow.licence: filters.licence,
        PacketRow.state: filters.state,
    }
    for column, wanted in equal.items():
        if wanted is not None:
            query = query.where(column == wanted)
    if filters.teacher is not None:
        query = query.where(
            or_(PacketRow.teacher == filters.teacher, PacketRow.teacher_digest == filters.teacher)
        )
    if filters.signer is not None:
        query = query.where(
            PacketRow.signers.any(SignerRow.keyid.startswith(filters.signer, autoescape=True))
        )
    if filters.fidelity is not None:
        query = query.where(PacketRow.fidelity >= filters.fidelity)
    if filters.verdict is not None:
        query = query.where(PacketRow.statements.any(StatementRow.verdict == filters.verdict))
    if filters.label is not None:
        like = LabelRow.folded.contains(filters.label.casefold(), autoescape=True)
        query = query.where(PacketRow.digest.in_(select(LabelRow.packet).where(like)))
    return query
