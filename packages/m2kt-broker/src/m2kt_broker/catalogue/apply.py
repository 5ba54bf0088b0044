"""A record becomes rows. Twice the same is once, and the order of arrival does not matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete
from sqlalchemy.orm import Session

from m2kt.packet import Packet, Statement, verify_statement

from ..records import KeyEnded, KeyMade, Noticed, Published, Record, Stated, digest_of
from .entries import label_rows, packet_row, signer_rows, statement_row, vectors_row
from .models import KeyRow, PacketRow, RecordRow, SignerRow, StatementRow

ORDER = ("key-made", "key-ended", "published", "stated", "noticed")
"""Each kind speaks of what the kinds before it brought; clocks of several servers need not agree."""


@dataclass(frozen=True)
class Loaded:
    """What a record is about, verified already by whoever brings it, or to be fetched from the store."""

    packet: Callable[[str], Packet]
    """A packet by the digest of its bytes."""


def apply(session: Session, record: Record, digest: str, loaded: Loaded) -> None:
    """Writes what a record says. The caller's transaction makes it visible."""
    if session.get(RecordRow, digest) is not None:
        return
    match record:
        case Published():
            _published(session, record, loaded.packet(record.blob))
        case Stated():
            envelope = record.envelope.encode()
            _stated(session, record, verify_statement(envelope, packet=record.packet), digest_of(envelope))
        case Noticed():
            _noticed(session, record)
        case KeyMade():
            session.add(
                KeyRow(
                    id=record.id,
                    name=record.name,
                    role=record.role,
                    sha256=record.sha256,
                    created_at=record.at,
                )
            )
        case KeyEnded():
            _key_ended(session, record)
    session.add(RecordRow(digest=digest, kind=record.kind, at=record.at))
    session.flush()


def _published(session: Session, record: Published, packet: Packet) -> None:
    row = session.get(PacketRow, record.packet)
    if row is None:
        session.add(packet_row(packet, record))
        session.flush()
        session.add_all(label_rows(packet, record.packet))
        session.add(vectors_row(packet, record.packet))
        return
    if record.at < row.published_at:
        row.published_at, row.publisher = record.at, record.by
    signers = signer_rows(packet, record.packet)
    # the form with the most signatures is handed out; with as many, the digest decides, so that order never does
    if (len(signers), record.blob) > (len(row.signers), row.blob):
        session.execute(delete(SignerRow).where(SignerRow.packet == record.packet))
        session.add_all(signers)
        row.blob, row.size = record.blob, record.size
        session.flush()
        session.expire(row, ["signers"])


def _stated(session: Session, record: Stated, statement: Statement, digest: str) -> None:
    session.get_one(PacketRow, record.packet)
    known = session.get(StatementRow, digest)
    if known is None:
        session.add(statement_row(statement, digest, record.envelope, record.at, record.by))
    elif record.at < known.at:
        known.at, known.by = record.at, record.by


def _noticed(session: Session, record: Noticed) -> None:
    row = session.get_one(PacketRow, record.packet)
    before, came = (row.state, row.state_at or ""), (record.state, record.at)
    if "revoked" in (before[0], came[0]):  # for ever, from the first time on
        newer = came[0] == "revoked" and (before[0] != "revoked" or came[1] < before[1])
    else:
        newer = (came[1], came[0]) > (before[1], before[0])
    if newer:
        row.state, row.state_reason, row.state_at, row.state_by = (
            record.state,
            record.reason,
            record.at,
            record.by,
        )


def _key_ended(session: Session, record: KeyEnded) -> None:
    key = session.get_one(KeyRow, record.id)
    key.ended_at = min(filter(None, (key.ended_at, record.at)))
