"""Who may add what: quotas of API keys, slots of signatures and statements, and whose word changes a packet's state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from m2kt.packet import SignedNotice

from ._errors import Conflict, Forbidden, QuotaExceeded, Unprocessable
from ._records import Role
from ._settings import BrokerSettings
from ._trusted import Trusted
from .catalogue import PacketRow, RecordRow, StatementRow, StatementSignerRow, authors_of

MAX_ADDED_SIGNATURES = 4
"""Signatures that one API key may add to a packet, beside its author's and those of keys in the trust policy."""
MAX_UNKNOWN_SIGNATURES = 12
"""Of the 16 signatures of a packet, those of keys that the policy does not name; the others are kept for auditors."""
MAX_AHEAD = timedelta(minutes=10)
"""How far the clock of a notice's signer may be ahead."""
MAX_STATEMENTS = 1000
"""Maximum number of statements about one packet, because the packet's record lists them all."""
MAX_UNCOUNTED_STATEMENTS = 800
"""Of these, statements that do not count; the others are kept for auditors."""


@dataclass(frozen=True)
class Caller:
    """The name and the role of an API key."""

    name: str
    role: Role


def check_quota(session: Session, settings: BrokerSettings, caller: Caller, size: int) -> None:
    """Raise QuotaExceeded where ``size`` further bytes are more than an API key may store. Admins have no quota."""
    if caller.role == "admin":
        return
    used = select(func.count(), func.coalesce(func.sum(RecordRow.size), 0)).where(RecordRow.by == caller.name)
    count, stored = session.execute(used).one()
    if count >= settings.quota_records:
        raise QuotaExceeded(
            f"the key {caller.name} has added {count} packets and statements, the maximum for one key; ask an admin"
        )
    if stored + size > settings.quota_bytes:
        raise QuotaExceeded(
            f"expected at most {settings.quota_bytes - stored:,} further bytes of the key {caller.name}, of a quota of "
            f"{settings.quota_bytes:,}, got {size:,}; ask an admin"
        )


def check_signatures(
    row: PacketRow | None, author: str, keyids: tuple[str, ...], caller: Caller, trusted: Trusted
) -> None:
    """Check that an upload leaves slots for auditors, whoever adds signatures first. Raises Forbidden or Conflict.

    Args:
        row: the packet, if it is stored.
        author: of the upload; its signature takes no slot.
        keyids: all signers, those of the stored form included.
    """
    unknown = {k for k in keyids if k != author and k not in trusted.owners}
    added_by: dict[str, str] = {}
    for form in [] if row is None else [f for f in row.forms if f.author == author]:
        for keyid in form.keyids:
            added_by.setdefault(keyid, form.by)
    mine = {k for k in unknown if added_by.get(k, caller.name) == caller.name}
    if caller.role != "admin" and len(mine) > MAX_ADDED_SIGNATURES:
        raise Forbidden(
            f"expected at most {MAX_ADDED_SIGNATURES} signatures of one API key, beside those of the author and "
            f"of keys in the trust policy, got {len(mine)}; remove some"
        )
    if len(unknown) > MAX_UNKNOWN_SIGNATURES:
        raise Conflict(
            f"expected at most {MAX_UNKNOWN_SIGNATURES} signatures of keys that the trust policy does not name, got "
            f"{len(unknown)}; the other slots are for auditors"
        )


def check_statements(
    session: Session, settings: BrokerSettings, digest: str, keyids: tuple[str, ...], caller: Caller, trusted: Trusted
) -> None:
    """Check that a statement leaves slots for auditors. Raises Conflict or QuotaExceeded."""
    of_packet = select(func.count()).select_from(StatementRow).where(StatementRow.packet == digest)
    total = session.scalar(of_packet) or 0
    if trusted.counts(keyids):
        if total >= MAX_STATEMENTS:
            raise Conflict(f"{digest} already has {MAX_STATEMENTS} statements, the maximum for one packet")
        return
    by_auditors = (
        select(func.count(func.distinct(StatementRow.digest)))
        .join(StatementSignerRow, StatementSignerRow.statement == StatementRow.digest)
        .where(StatementRow.packet == digest, StatementSignerRow.keyid.in_(trusted.auditors))
    )
    if total - (session.scalar(by_auditors) or 0) >= MAX_UNCOUNTED_STATEMENTS:
        raise Conflict(
            f"{digest} already has {MAX_UNCOUNTED_STATEMENTS} statements that the trust policy does not count, the "
            "maximum for one packet"
        )
    mine = session.scalar(of_packet.where(StatementRow.by == caller.name)) or 0
    if caller.role != "admin" and mine >= settings.quota_statements:
        raise QuotaExceeded(
            f"the key {caller.name} has added {mine} statements about {digest}, the maximum for one key and packet"
        )


def check_notice(row: PacketRow, signed: SignedNotice, caller: Caller) -> bool:
    """Check who may change a packet's state; returns whether an admin does, and not the author.

    Raises:
        Forbidden: neither an author of the packet signed it, nor an admin sends it.
        Unprocessable: it is of the future, so that no other could follow it.
        Conflict: the same author has said something later.
    """
    now = datetime.now(UTC)
    if signed.notice.at > now + MAX_AHEAD:
        raise Unprocessable(f"expected a notice of the past, got one of {signed.notice.at}, at {now}; set the clock")
    authors = sorted(set(signed.keyids) & set(authors_of(row)))
    if not authors and caller.role != "admin":
        raise Forbidden(
            f"expected a notice signed by the author of {row.digest}, {', '.join(authors_of(row))}, got one of "
            f"{', '.join(signed.keyids)}; only the author or an admin may change its state"
        )
    stated_at = signed.notice.at.isoformat()
    for old in row.notices:
        is_same_voice = bool(set(old.keyids) & set(signed.keyids))
        if is_same_voice and old.stated_at >= stated_at and old.state != signed.notice.state:
            raise Conflict(
                f"expected a notice later than {old.stated_at}, got one of {stated_at}; sign a new one: an old notice "
                "may not be used again"
            )
    return not authors
