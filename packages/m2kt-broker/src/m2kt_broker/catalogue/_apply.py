"""Apply a record to the catalogue: idempotent, and independent of the order within a kind."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import delete
from sqlalchemy.orm import Session

from m2kt.packet import Packet, Statement, verify_statement

from .._records import KeyCreated, KeyEnded, PacketPublished, Record, StateChanged, StatementAdded, digest_of
from ._entries import label_rows, packet_row, signer_rows, statement_row, vectors_row
from ._models import KeyRow, PacketRow, RecordRow, SignerRow, StatementRow

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
            _apply_state(session, record)
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
    session.add(RecordRow(digest=digest, kind=record.kind, at=record.at))
    session.flush()


def _apply_packet(session: Session, record: PacketPublished, packet: Packet) -> None:
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
    # keep the form with the most signatures; the digest breaks ties, so that the order of records does not matter
    if (len(signers), record.blob) > (len(row.signers), row.blob):
        session.execute(delete(SignerRow).where(SignerRow.packet == record.packet))
        session.add_all(signers)
        row.blob, row.size = record.blob, record.size
        session.flush()
        session.expire(row, ["signers"])


def _apply_statement(session: Session, record: StatementAdded, statement: Statement, digest: str) -> None:
    session.get_one(PacketRow, record.packet)
    row = session.get(StatementRow, digest)
    if row is None:
        session.add(statement_row(statement, digest, record.envelope, record.at, record.by))
    elif record.at < row.at:
        row.at, row.by = record.at, record.by


def _apply_state(session: Session, record: StateChanged) -> None:
    row = session.get_one(PacketRow, record.packet)
    old, new = (row.state, row.state_at or ""), (record.state, record.at)
    if "revoked" in (old[0], new[0]):  # the earliest revocation is permanent
        replaces = new[0] == "revoked" and (old[0] != "revoked" or new[1] < old[1])
    else:
        replaces = (new[1], new[0]) > (old[1], old[0])
    if replaces:
        row.state, row.state_reason = record.state, record.reason
        row.state_at, row.state_by = record.at, record.by


def _apply_key_end(session: Session, record: KeyEnded) -> None:
    key = session.get_one(KeyRow, record.id)
    key.ended_at = min(filter(None, (key.ended_at, record.at)))
