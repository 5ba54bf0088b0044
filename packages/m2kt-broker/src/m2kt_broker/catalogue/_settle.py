"""What follows from a packet's forms and notices together: its state, and the form that is served.

Anybody may sign a copy of the same parts as its author, so a packet has as many authors as made a statement about it.
An author may withdraw what he signed, and no more: a packet is revoked when no author stands behind it, or by an admin.
"""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.orm import Session

from ._models import FormRow, NoticeRow, PacketRow, SignerRow


def authors_of(row: PacketRow) -> list[str]:
    """Authors of a packet, in order of their first publication."""
    return list(dict.fromkeys(form.author for form in row.forms))


def is_withdrawn(row: PacketRow, author: str) -> bool:
    """Whether an author revoked the packet. A revocation is permanent."""
    return any(n.state == "revoked" and not n.by_admin and author in n.keyids for n in row.notices)


def is_banned(row: PacketRow) -> bool:
    """Whether an admin revoked the packet."""
    return any(n.state == "revoked" and n.by_admin for n in row.notices)


def best_form(row: PacketRow, author: str) -> FormRow:
    """The form of an author's last release with the most signatures; no order of records matters."""
    return max(
        (f for f in row.forms if f.author == author), key=lambda form: (form.release, len(form.keyids), form.blob)
    )


def settle(session: Session, row: PacketRow) -> None:
    """Write what follows from forms and notices into the packet's row. The order of records does not matter."""
    session.expire(row, ["forms", "notices"])
    authors = authors_of(row)
    standing = [author for author in authors if not is_withdrawn(row, author)]
    served = best_form(row, (standing or authors)[0])
    first = min((f for f in row.forms if f.author == served.author), key=lambda form: (form.at, form.blob))
    row.blob, row.size, row.published_at, row.publisher = served.blob, served.size, first.at, first.by
    session.execute(delete(SignerRow).where(SignerRow.packet == row.digest))
    session.add_all(SignerRow(packet=row.digest, keyid=k, writer=k == served.author) for k in served.keyids)
    notice = _notice(row, authors, standing)
    row.state = "listed" if notice is None else notice.state
    row.state_reason = None if notice is None else notice.reason
    row.state_at, row.state_by = (None, None) if notice is None else (notice.at, notice.by)
    row.state_envelope = None if notice is None else notice.envelope
    session.flush()
    session.expire(row, ["signers"])


def _notice(row: PacketRow, authors: list[str], standing: list[str]) -> NoticeRow | None:
    """The notice that decides the state: the earliest revocation, else the latest word of admins and of the authors."""
    revoked = [n for n in row.notices if n.state == "revoked" and (n.by_admin or not standing)]
    if (is_banned(row) or not standing) and revoked:
        return min(revoked, key=lambda n: (not n.by_admin if is_banned(row) else False, n.at, n.record))
    others = [n for n in row.notices if n.state != "revoked"]
    latest = max(others, key=_order, default=None)
    by_author = [max((n for n in others if a in n.keyids), key=_order, default=None) for a in standing]
    # an author who hides his copy does not hide another author's
    if latest is not None and latest.state == "yanked" and not latest.by_admin:
        open_ones = [n for n in by_author if n is None or n.state != "yanked"]
        return max(filter(None, open_ones), key=_order, default=None) if open_ones else latest
    return latest


def _order(notice: NoticeRow) -> tuple[str, str]:
    return notice.at, notice.record
