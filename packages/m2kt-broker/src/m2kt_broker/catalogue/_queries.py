"""Queries of the catalogue. A page begins after the last entry of the page before, so new entries shift nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, case, false, func, or_, select, tuple_
from sqlalchemy.orm import Session

from m2kt.packet import RECEIPT

from .._trusted import Trusted
from ._models import LabelRow, PacketRow, SignerRow, StatementRow, StatementSignerRow, VectorsRow

T = TypeVar("T")
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class NearConcept:
    """A concept near a query vector."""

    packet: str
    skill: str
    concept: str
    row: int
    cosine: float


@dataclass(frozen=True)
class Filters:
    """Conditions on packets; all that are set must hold."""

    skill: str | None = None
    teacher: str | None = None
    """Name or digest."""
    licence: str | None = None
    signer: str | None = None
    """Prefix of a key id."""
    fidelity: float | None = None
    """Minimum fidelity."""
    verdict: str | None = None
    """Verdict of at least one statement that counts."""
    trusted: Trusted = field(default_factory=Trusted)
    """Whose verdicts count."""
    state: str | None = "listed"
    """None: any state."""
    label: str | None = None
    """Part of at least one label; case does not matter."""


@dataclass
class Verdicts:
    """Statements about a packet that have a verdict."""

    counted: dict[str, int] = field(default_factory=dict)
    """Number of those that count, by verdict."""
    auditors: list[str] = field(default_factory=list)
    """Key ids behind these."""
    uncounted: int = 0


def find_packets(
    session: Session, filters: Filters, limit: int, after: tuple[str, str] | None = None
) -> tuple[list[PacketRow], tuple[str, str] | None]:
    """Packets, newest first, and the position of the next page, or None on the last page.

    Args:
        after: position of the page: ``published_at`` and digest of the last packet of the page before.
    """
    query = _filtered(select(PacketRow), filters)
    if after is not None:
        query = query.where(tuple_(PacketRow.published_at, PacketRow.digest) < after)
    newest_first = query.order_by(PacketRow.published_at.desc(), PacketRow.digest.desc())
    rows = list(session.scalars(newest_first.limit(limit + 1)))
    has_next = len(rows) > limit
    rows = rows[:limit]
    return rows, (rows[-1].published_at, rows[-1].digest) if has_next else None


def count_packets(session: Session, filters: Filters) -> int:
    """The number of packets."""
    return session.scalar(_filtered(select(func.count(PacketRow.digest)), filters)) or 0


def sources_of(row: PacketRow) -> list[str]:
    """Digests of the packets that one was merged from."""
    merged = row.manifest.get("merged")
    return [] if merged is None else [str(source["digest"]) for source in merged["sources"]]


def revoked_among(session: Session, digests: set[str]) -> set[str]:
    """Those of these packets that are revoked here."""
    if not digests:
        return set()
    query = select(PacketRow.digest).where(PacketRow.digest.in_(digests), PacketRow.state == "revoked")
    return set(session.scalars(query))


def receipts_of(session: Session, packet: str) -> list[StatementRow]:
    """Receipts of ingestions of a packet, oldest first."""
    query = select(StatementRow).where(StatementRow.packet == packet, StatementRow.kind == RECEIPT)
    return list(session.scalars(query.order_by(StatementRow.at, StatementRow.digest)))


def verdict_counts(session: Session, packets: list[str], trusted: Trusted) -> dict[str, Verdicts]:
    """Statements with a verdict, by packet: those that count and the others."""
    counts = {digest: Verdicts() for digest in packets}
    columns = (StatementRow.packet, StatementRow.verdict, StatementRow.digest.in_(_counted(trusted)))
    query = (
        select(*columns, func.count())
        .where(StatementRow.packet.in_(packets), StatementRow.verdict.is_not(None))
        .group_by(*columns)
        .order_by(StatementRow.packet, StatementRow.verdict)
    )
    for packet, verdict, is_counted, count in session.execute(query):
        if is_counted:
            counts[packet].counted[str(verdict)] = count
        else:
            counts[packet].uncounted += count
    signers = (
        select(StatementRow.packet, StatementSignerRow.keyid)
        .join(StatementSignerRow, StatementSignerRow.statement == StatementRow.digest)
        .where(
            StatementRow.packet.in_(packets),
            StatementRow.verdict.is_not(None),
            StatementRow.digest.in_(_counted(trusted)),
            StatementSignerRow.keyid.in_(trusted.auditors),
        )
        .distinct()
    )
    for packet, keyid in session.execute(signers):
        counts[packet].auditors.append(keyid)
    return counts


def _counted(trusted: Trusted) -> Select[str]:
    """Digests of the statements that count: signed by as many auditors as the trust policy asks for."""
    signed = select(StatementSignerRow.statement)
    if not trusted.auditors:
        return signed.where(false())
    holder = case(dict(trusted.auditors), value=StatementSignerRow.keyid)
    return (
        signed.where(StatementSignerRow.keyid.in_(trusted.auditors))
        .group_by(StatementSignerRow.statement)
        .having(func.count(func.distinct(holder)) >= trusted.threshold)
    )


def packets_in_lineage(session: Session, digest: str, limit: int) -> list[PacketRow]:
    """The packet with this digest, packets of this teacher, and packets behind this adapter; oldest first."""
    behind_adapter = PacketRow.statements.any(StatementRow.adapter == digest)
    query = select(PacketRow).where(or_(PacketRow.digest == digest, PacketRow.teacher_digest == digest, behind_adapter))
    return list(session.scalars(query.order_by(PacketRow.published_at, PacketRow.digest).limit(limit)))


def nearest_concepts(session: Session, space: str, vector_D: Floats, limit: int) -> list[NearConcept]:
    """The concepts of listed packets in one space with the highest cosine similarity to a vector.

    The search is exact and reads the vectors of one packet at a time, so memory does not grow with the space. It skips
    packets of another width: a packet with a false teacher digest must not break the search.
    """
    width = len(vector_D)
    query = (
        select(VectorsRow.packet, PacketRow.skill, VectorsRow.vectors_KD, VectorsRow.names)
        .join(PacketRow, PacketRow.digest == VectorsRow.packet)
        .where(VectorsRow.space == space, PacketRow.width == width, PacketRow.state == "listed")
        .order_by(VectorsRow.packet)
        .execution_options(yield_per=1)
    )
    nearest: list[NearConcept] = []
    for packet, skill, buffer, names in session.execute(query):
        vectors_KD = np.frombuffer(buffer, dtype="<f4").reshape(-1, width)
        norms_K = np.linalg.norm(vectors_KD, axis=1) * np.linalg.norm(vector_D)
        cosine_K = vectors_KD @ vector_D / np.maximum(norms_K, 1e-12)
        rows = np.argsort(-cosine_K, kind="stable")[:limit]
        nearest += [NearConcept(packet, skill, names[k], int(k), float(cosine_K[k])) for k in rows]
        nearest = sorted(nearest, key=lambda near: (-near.cosine, near.packet, near.row))[:limit]
    return nearest


def matching_labels(session: Session, packets: list[str], text: str, limit: int = 5) -> dict[str, list[LabelRow]]:
    """Labels that contain a text, by packet; at most ``limit`` for each."""
    query = (
        select(LabelRow)
        .where(LabelRow.packet.in_(packets), LabelRow.folded.contains(text.casefold(), autoescape=True))
        .order_by(LabelRow.packet, LabelRow.kind, LabelRow.text)
    )
    labels: dict[str, list[LabelRow]] = {digest: [] for digest in packets}
    for label in session.scalars(query):
        if len(labels[label.packet]) < limit:
            labels[label.packet].append(label)
    return labels


def _filtered(query: Select[T], filters: Filters) -> Select[T]:
    equal = {
        PacketRow.skill: filters.skill,
        PacketRow.licence: filters.licence,
        PacketRow.state: filters.state,
    }
    for column, value in equal.items():
        if value is not None:
            query = query.where(column == value)
    if filters.teacher is not None:
        query = query.where(or_(PacketRow.teacher == filters.teacher, PacketRow.teacher_digest == filters.teacher))
    if filters.signer is not None:
        query = query.where(PacketRow.signers.any(SignerRow.keyid.startswith(filters.signer, autoescape=True)))
    if filters.fidelity is not None:
        query = query.where(PacketRow.fidelity >= filters.fidelity)
    if filters.verdict is not None:
        given = StatementRow.verdict == filters.verdict
        query = query.where(PacketRow.statements.any(given & StatementRow.digest.in_(_counted(filters.trusted))))
    if filters.label is not None:
        contains = LabelRow.folded.contains(filters.label.casefold(), autoescape=True)
        query = query.where(PacketRow.digest.in_(select(LabelRow.packet).where(contains)))
    return query
