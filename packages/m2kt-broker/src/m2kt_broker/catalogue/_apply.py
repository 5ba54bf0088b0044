"""Apply a record to the catalogue: idempotent, and independent of the order within a kind."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from m2kt.packet import Packet, Statement, read_notice, verify_statement

from .._records import KeyCreated, KeyEnded, PacketPublished, Record, StateChanged, StatementAdded, digest_of
from ._entries import form_row, label_rows, packet_row, statement_row, vectors_row
from ._models import FormRow, KeyRow, NoticeRow, PacketRow, RecordRow, StatementRow, StatementSignerRow
from ._settle import settle

RECORD_ORDER = ("key-made", "key-ended", "published", "stated", "noticed")
"""A record refers only to records of earlier kinds, so the clocks of several servers need not agree."""


def apply(session: Session, record: Record, digest: str, load: Callable[[str], Packet]) -> None:
    """Write the rows of a record within the caller's transaction.

    Args:
        load: returns a verified packet by the digest of its single-file form.
    """
    if session.get(RecordRow, digest) is not None:
        return
    match record:
        case PacketPublished():
            _apply_packet(session, record, load(record.blob))
        case StatementAdded():
            envelope = record.envelope.encode()
            statement = verify_statement(envelope, packet=record.packet)
            _apply_statement(session, record, statement, digest_of(envelope))
        case StateChanged():
            _apply_state(session, record, digest)
        case KeyCreated():
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
            _apply_key_end(session, record)
    session.add(RecordRow(digest=digest, kind=record.kind, at=record.at, by=record.by, size=added_bytes(record)))
    session.flush()


def added_bytes(record: Record) -> int:
    """Bytes that a record added to the store, with what it names."""
    match record:
        case PacketPublished():
            return record.size
        case StatementAdded():
            return len(record.envelope)
        case StateChanged():
            return len(record.envelope or "")
        case _:
            return 0


def _apply_packet(session: Session, record: PacketPublished, packet: Packet) -> None:
    row = session.get(PacketRow, record.packet)
    if row is None:
        row = packet_row(packet, record)
        session.add(row)
        session.flush()
        session.add_all(label_rows(packet, record.packet))
        session.add(vectors_row(packet, record.packet))
    form = session.get(FormRow, record.blob)
    if form is None:
        session.add(form_row(packet, record))
    elif record.at < form.at:
        form.at, form.by = record.at, record.by
    session.flush()
    settle(session, row)


def _apply_statement(session: Session, record: StatementAdded, statement: Statement, digest: str) -> None:
    session.get_one(PacketRow, record.packet)
    row = session.get(StatementRow, digest)
    if row is None:
        session.add(statement_row(statement, digest, record.envelope, record.at, record.by))
        session.flush()
        session.add_all(StatementSignerRow(statement=digest, keyid=keyid) for keyid in set(statement.keyids))
    elif record.at < row.at:
        row.at, row.by = record.at, record.by


def _apply_state(session: Session, record: StateChanged, digest: str) -> None:
    row = session.get_one(PacketRow, record.packet)
    keyids: list[str] = []
    stated_at = record.at
    if record.envelope is not None:
        signed = read_notice(record.envelope.encode(), "a notice", record.packet)
        keyids, stated_at = sorted(signed.keyids), signed.notice.at.isoformat()
    session.add(
        NoticeRow(
            record=digest,
            packet=record.packet,
            state=record.state,
            reason=record.reason,
            at=record.at,
            by=record.by,
            by_admin=record.by_admin,
            keyids=keyids,
            stated_at=stated_at,
            envelope=record.envelope,
        )
    )
    session.flush()
    settle(session, row)


def _apply_key_end(session: Session, record: KeyEnded) -> None:
    key = session.get_one(KeyRow, record.id)
    key.ended_at = min(filter(None, (key.ended_at, record.at)))
