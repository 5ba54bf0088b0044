"""What is asked of the catalogue. The next page begins behind the last entry shown: new arrivals shift nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, func, or_, select, tuple_
from sqlalchemy.orm import Session

from m2kt.packet import RECEIPT

from .models import LabelRow, PacketRow, SignerRow, StatementRow, VectorsRow

T = TypeVar("T")
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Near:
    """A concept near a vector."""

    packet: str
    skill: str
    concept: str
    row: int
    cosine: float


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


def receipts_of(session: Session, packet: str) -> list[StatementRow]:
    """Receipts of ingests, oldest first."""
    query = select(StatementRow).where(StatementRow.packet == packet, StatementRow.kind == RECEIPT)
    return list(session.scalars(query.order_by(StatementRow.at, StatementRow.digest)))


def verdict_counts(session: Session, packets: list[str]) -> dict[str, dict[str, int]]:
    """By packet, how many statements there are with each verdict."""
    query = (
        select(StatementRow.packet, StatementRow.verdict, func.count())
        .where(StatementRow.packet.in_(packets), StatementRow.verdict.is_not(None))
        .group_by(StatementRow.packet, StatementRow.verdict)
        .order_by(StatementRow.packet, StatementRow.verdict)
    )
    found: dict[str, dict[str, int]] = {digest: {} for digest in packets}
    for packet, verdict, count in session.execute(query):
        found[packet][str(verdict)] = count
    return found


def descended(session: Session, digest: str, limit: int) -> list[PacketRow]:
    """Packets that are this, come from this teacher, or became this adapter; oldest first."""
    became = PacketRow.statements.any(StatementRow.adapter == digest)
    query = select(PacketRow).where(
        or_(PacketRow.digest == digest, PacketRow.teacher_digest == digest, became)
    )
    return list(session.scalars(query.order_by(PacketRow.published_at, PacketRow.digest).limit(limit)))


def nearest(session: Session, space: str, vector_D: Floats, limit: int) -> list[Near]:
    """The concepts of listed packets in one space that point most nearly where the vector does.

    Exact: every vector of the space is looked at, a packet at a time, so memory does not grow with the space. Packets
    of another width are passed over: one that lies about its teacher must not spoil the search for others.
    """
    width = len(vector_D)
    query = (
        select(VectorsRow.packet, PacketRow.skill, VectorsRow.vectors_KD, VectorsRow.names)
        .join(PacketRow, PacketRow.digest == VectorsRow.packet)
        .where(VectorsRow.space == space, PacketRow.width == width, PacketRow.state == "listed")
        .order_by(VectorsRow.packet)
        .execution_options(yield_per=1)
    )
    best: list[Near] = []
    for packet, skill, raw, names in session.execute(query):
        vectors_KD = np.frombuffer(raw, dtype="<f4").reshape(-1, width)
        lengths_K = np.linalg.norm(vectors_KD, axis=1) * np.linalg.norm(vector_D)
        cosine_K = vectors_KD @ vector_D / np.maximum(lengths_K, 1e-12)
        rows = np.argsort(-cosine_K, kind="stable")[:limit]
        best += [Near(packet, skill, names[k], int(k), float(cosine_K[k])) for k in rows]
        best = sorted(best, key=lambda near: (-near.cosine, near.packet, near.row))[:limit]
    return best


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
