"""The operations of a broker, without HTTP. Each stores bytes, then a record, then updates the catalogue.

A request succeeds after all three. A crash in between leaves unreferenced bytes, or a record that the next start adds
to the catalogue.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session

from m2kt.errors import PacketError, StorageError, explain
from m2kt.packet import (
    NOTICE,
    Packet,
    TrustPolicy,
    judge_packet,
    merge_signatures,
    read_notice,
    verify_statement,
)

from ._errors import Conflict, Gone, NotFound, Unprocessable
from ._records import (
    KeyCreated,
    KeyEnded,
    PacketPublished,
    Record,
    Role,
    StateChanged,
    StatementAdded,
    digest_of,
    is_plain,
    parse_record,
)
from ._rights import Caller, check_notice, check_quota, check_signatures, check_statements
from ._settings import BrokerSettings
from ._trusted import Trusted
from ._views import KeyEntry
from .catalogue import (
    RECORD_ORDER,
    Base,
    Database,
    FormRow,
    KeyRow,
    PacketRow,
    RecordRow,
    StatementRow,
    apply,
    authors_of,
    best_form,
    is_banned,
    is_withdrawn,
)
from .stores import KINDS, Store, file_digest, open_store, read_all

log = structlog.get_logger("m2kt_broker")


class Broker:
    """One store, one catalogue and one trust policy."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings
        try:
            settings.spool.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot use {settings.data}: {explain(error)}; choose another --data") from error
        self.store: Store = open_store(settings.store_url)
        self.database = Database(settings.database_url)
        self.policy = None if settings.trust is None else TrustPolicy.from_file(settings.trust)
        self.catalogue_is_stale = True
        """Whether the store may hold records that the catalogue lacks."""
        self.unreadable_records: dict[str, str] = {}
        """Damaged records, and records of damaged packets: digest and reason."""

    def start(self) -> None:
        """Migrate the database and update the catalogue."""
        self.database.migrate()
        self.update_catalogue()

    def close(self) -> None:
        """Close all database connections."""
        self.database.close()

    def check(self) -> None:
        """Check that database and store respond, and update a stale catalogue.

        Raises:
            StorageError: the database or a directory does not respond.
            BrokerError: a bucket or registry does not respond.
        """
        self.database.check()
        self.store.check()
        if self.catalogue_is_stale:
            self.update_catalogue()

    def publish(self, digest: str, file: Path, caller: Caller) -> tuple[PacketRow, bool]:
        """Verify and store a packet. Returns its row, and whether the upload added anything.

        Signatures of the stored form by the same author are kept: an upload can add some and remove none.

        Args:
            file: the single-file form; a directory store may move it.

        Raises:
            Unprocessable: the file is no valid packet, or a packet with another digest.
            TrustError: the trust policy rejects the packet.
            Forbidden, Conflict, QuotaExceeded: the slots for signatures or the quota of the API key are taken.
            Gone: its author or an admin revoked the packet.
        """
        packet = load_packet(file)
        if packet.digest != digest:
            raise Unprocessable(f"expected the packet {digest}, got {packet.digest}; publish it under its own digest")
        trusted = None
        if self.policy is not None:
            verdict = judge_packet(packet, self.policy)
            verdict.require("the packet")
            trusted = verdict.trusted
        assert packet.signature is not None
        author, keyids = packet.signature.keyid, packet.signature.keyids
        with self.database.read() as session:
            row = session.get(PacketRow, digest)
            stored = self._stored_form(row, author)
            blob = file_digest(file)
            if stored is not None and blob != stored.blob:
                keyids = self._merge(file, stored)
                blob = file_digest(file)
            if row is not None and stored is not None and blob == stored.blob:
                return row, False
            size = file.stat().st_size
            check_signatures(row, author, keyids, caller, self.trusted)
            check_quota(session, self.settings, caller, size)
        packet = load_packet(file)  # with the signatures of the stored form
        labels = {"title": f"{packet.manifest.name}.m2kp", "packet": digest}
        self.store.put("packets", blob, file, labels)
        record = PacketPublished(by=caller.name, packet=digest, blob=blob, size=size, trusted=trusted)
        with self._write_session() as session:
            row = session.get(PacketRow, digest)
            stored = self._stored_form(row, author)
            if row is not None and stored is not None and stored.blob == blob:
                return row, False
            check_signatures(row, author, keyids, caller, self.trusted)
            check_quota(session, self.settings, caller, size)
            self._add_record(session, record, packet)
            return session.get_one(PacketRow, digest), True

    def add_statement(self, digest: str, envelope: bytes, caller: Caller) -> tuple[str, bool]:
        """Verify and store a signed statement about a packet. Returns its digest, and whether it is new.

        Raises:
            Unprocessable: it does not verify, is about another packet, or is a notice.
            Conflict, QuotaExceeded: the slots of the packet or of the API key are taken.
        """
        try:
            statement = verify_statement(envelope, packet=digest)
        except PacketError as error:
            raise Unprocessable(str(error)) from error
        if statement.predicate_type == NOTICE:
            raise Unprocessable(f"expected a receipt, verdict or evaluation, got a notice; put it to {digest}/state")
        name = digest_of(envelope)
        with self._write_session() as session:
            self.packet_row(session, digest)
            if session.get(StatementRow, name) is not None:
                return name, False
            check_statements(session, self.settings, digest, statement.keyids, caller, self.trusted)
            check_quota(session, self.settings, caller, len(envelope))
            self._add_record(
                session,
                StatementAdded(by=caller.name, packet=statement.packet, envelope=envelope.decode()),
            )
            return name, True

    def set_state(self, digest: str, envelope: bytes, caller: Caller) -> PacketRow:
        """List, yank or revoke a packet by a signed notice.

        Raises:
            Unprocessable: it is no notice about this packet, or does not verify.
            Forbidden: no author of the packet signed it, and the caller is no admin.
            Conflict: the packet is revoked, or the notice is older than another of its signer.
        """
        try:
            signed = read_notice(envelope, "the notice", digest)
        except PacketError as error:
            raise Unprocessable(str(error)) from error
        state, reason = signed.notice.state, signed.notice.reason
        with self._write_session() as session:
            row = self.packet_row(session, digest)
            by_admin = check_notice(row, signed, caller)
            if row.state == "revoked" and state != "revoked":
                raise Conflict(f"{digest} is revoked permanently; publish another packet")
            if any(n.envelope == envelope.decode() for n in row.notices):
                return row
            check_quota(session, self.settings, caller, len(envelope))
            record = StateChanged(
                by=caller.name,
                packet=digest,
                state=state,
                reason=reason,
                envelope=envelope.decode(),
                by_admin=by_admin,
            )
            self._add_record(session, record)
            return row

    def create_key(self, name: str, role: Role, by: str) -> tuple[KeyCreated, str]:
        """Create an API key. Returns its record and the key itself, which is not stored."""
        if not (0 < len(name) <= 128 and is_plain(name)):
            raise Unprocessable(f"expected a name of 1 to 128 characters on one line, got {name[:40]!r}")
        identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        key = f"m2kt_{identity}_{secret}"
        record = KeyCreated(by=by, id=identity, name=name, role=role, sha256=key_digest(key))
        with self._write_session() as session:
            same_name = select(KeyRow).where(KeyRow.name == name, KeyRow.ended_at.is_(None))
            if session.scalar(same_name) is not None:
                raise Conflict(f"an active key with the name {name} exists; choose another name, or end that key first")
            self._add_record(session, record)
        return record, key

    def end_key(self, identity: str, by: str) -> None:
        """End an API key, by its id."""
        with self._write_session() as session:
            if session.get(KeyRow, identity) is None:
                raise NotFound(f"there is no key {identity}; m2kt broker keys list prints all ids")
            self._add_record(session, KeyEnded(by=by, id=identity))

    def list_keys(self) -> list[KeyEntry]:
        """All API keys, oldest first, ended ones included; without the digests of their secrets."""
        with self.database.read() as session:
            rows = session.scalars(select(KeyRow).order_by(KeyRow.created_at, KeyRow.id))
            return [
                KeyEntry(id=r.id, name=r.name, role=r.role, created_at=r.created_at, ended_at=r.ended_at) for r in rows
            ]

    def packet_row(self, session: Session, digest: str) -> PacketRow:
        """The row of a packet. Raises NotFound."""
        row = session.get(PacketRow, digest)
        if row is None:
            raise NotFound(f"there is no packet {digest}")
        return row

    def statement_row(self, session: Session, digest: str) -> StatementRow:
        """The row of a statement. Raises NotFound."""
        row = session.get(StatementRow, digest)
        if row is None:
            raise NotFound(f"there is no statement {digest}")
        return row

    def served_form(self, row: PacketRow, author: str | None) -> tuple[str, int]:
        """Digest and size of the form that is served, or of that by an author. Raises NotFound or Gone."""
        if author is None:
            return row.blob, row.size
        form = self._stored_form(row, author)
        if form is None:
            raise NotFound(f"{row.digest} has no author {author}; its record names all")
        return form.blob, form.size

    def stored_packet(self, blob: str) -> Packet:
        """Load a packet from the store, by the digest of its single-file form."""
        with self.stored_file(blob) as file:
            return load_packet(file)

    @contextmanager
    def stored_file(self, blob: str) -> Iterator[Path]:
        """A packet of the store as a temporary file."""
        with tempfile.NamedTemporaryFile(suffix=".m2kp") as file:
            for chunk in self.store.read("packets", blob):
                file.write(chunk)
            file.flush()
            yield Path(file.name)

    def update_catalogue(self) -> int:
        """Add the records that the catalogue lacks. Returns their number.

        An unreadable record is skipped and logged, so that it does not block the others.
        """
        with self.database.read() as session:
            indexed = set(session.scalars(select(RecordRow.digest)))
        self.unreadable_records = {}
        missing: list[tuple[Record, str]] = []
        for digest in self.store.digests("records"):
            if digest not in indexed:
                with self._skip_unreadable(digest):
                    missing.append((self._stored_record(digest), digest))
        missing.sort(key=lambda item: (RECORD_ORDER.index(item[0].kind), *by_time(*item)))
        for record, digest in missing:
            with self._skip_unreadable(digest), self.database.write() as session:
                apply(session, record, digest, self.stored_packet)
        self.catalogue_is_stale = False
        return len(missing)

    def find_damaged(self) -> list[str]:
        """Read every byte of the store; list the entries whose content differs from their digest."""
        damaged = []
        for kind in KINDS:
            for digest in self.store.digests(kind):
                content = hashlib.sha256()
                for chunk in self.store.read(kind, digest):
                    content.update(chunk)
                if f"sha256:{content.hexdigest()}" != digest:
                    damaged.append(f"{kind} {digest}")
        return sorted(damaged)

    def reindex(self) -> int:
        """Rebuild the catalogue from the store. Returns the number of records."""
        with self.database.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(table.delete())
        return self.update_catalogue()

    @contextmanager
    def _skip_unreadable(self, digest: str) -> Iterator[None]:
        try:
            yield
        except (Unprocessable, PacketError, ValueError, NoResultFound) as error:
            self.unreadable_records[digest] = explain(error)
            log.warning("unreadable record", record=digest, reason=explain(error))

    def _stored_record(self, digest: str) -> Record:
        content = read_all(self.store, "records", digest)
        if digest_of(content) != digest:
            raise ValueError(f"expected content with the digest {digest}, got {digest_of(content)}")
        return parse_record(content)

    @contextmanager
    def _write_session(self) -> Iterator[Session]:
        """A transaction that may add a record. If it fails after that, the next one updates the catalogue first."""
        if self.catalogue_is_stale:
            self.update_catalogue()
        with self.database.write() as session:
            try:
                yield session
                session.commit()
            except BaseException:
                self.catalogue_is_stale = self.catalogue_is_stale or "record stored" in session.info
                raise

    @property
    def trusted(self) -> Trusted:
        """What the trust policy says now."""
        return Trusted.by(self.policy)

    def _stored_form(self, row: PacketRow | None, author: str) -> FormRow | None:
        """The stored form of a packet by this author. Raises Gone where he, or an admin, revoked the packet."""
        if row is None:
            return None
        if is_banned(row) or is_withdrawn(row, author):
            raise Gone(f"{row.digest} was revoked at {row.state_at}: {row.state_reason}")
        return best_form(row, author) if author in authors_of(row) else None

    def _merge(self, file: Path, form: FormRow) -> tuple[str, ...]:
        """Add the signatures of a stored form to the uploaded file. Returns all signers."""
        with self.stored_file(form.blob) as stored:
            try:
                return merge_signatures(file, stored)
            except PacketError as error:
                raise Conflict(str(error).replace(str(file), "the packet")) from error

    def _add_record(self, session: Session, record: Record, packet: Packet | None = None) -> None:
        content = record.to_bytes()
        digest = digest_of(content)
        self.store.put("records", digest, content)
        session.info["record stored"] = True
        apply(session, record, digest, self.stored_packet if packet is None else lambda _: packet)


def load_packet(file: Path) -> Packet:
    """Load a packet and verify every part and signature. Raises Unprocessable."""
    try:
        return Packet.load(file)
    except PacketError as error:
        # the client does not know the name of the temporary file
        raise Unprocessable(str(error).replace(str(file), "the packet")) from error


def key_digest(key: str) -> str:
    """The stored form of an API key. A key has 256 random bits, so a slow password hash would add nothing."""
    return hashlib.sha256(key.encode()).hexdigest()


def by_time(record: Record, digest: str) -> tuple[str, str]:
    """Order of records of one kind. The resulting rows do not depend on it, which a test checks."""
    return record.at, digest
