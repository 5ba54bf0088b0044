"""What a broker does, without HTTP: bytes first, then the record, then the catalogue; acknowledged when all are there.

A crash in between leaves bytes that nobody sees, or a record that the next start brings into the catalogue.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session

from m2kt.errors import PacketError, StorageError, explain
from m2kt.packet import Packet, TrustPolicy, judge_packet, verify_statement

from .catalogue import ORDER, Base, Database, KeyRow, Loaded, PacketRow, RecordRow, StatementRow, apply
from .errors import Conflict, Forbidden, Gone, NotFound, Unacceptable
from .keys import Caller, hashed
from .records import (
    KeyEnded,
    KeyMade,
    Noticed,
    Published,
    Record,
    Role,
    State,
    Stated,
    digest_of,
    parse_record,
)
from .settings import BrokerSettings
from .stores import KINDS, Store, open_store, read_all
from .texts import is_plain
from .verify import file_digest, load_packet, stored_packet

log = structlog.get_logger("m2kt_broker")
MAX_STATEMENTS = 1000
"""Of one packet: its record holds them all in short."""


class Broker:
    """One store, one catalogue, one policy."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings
        try:
            settings.spool.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot use {settings.data}: {explain(error)}; choose another --data"
            ) from error
        self.store: Store = open_store(settings.store_url)
        self.database = Database(settings.database_url)
        self.policy = None if settings.trust is None else TrustPolicy.from_file(settings.trust)
        self.behind = True
        """Whether the store may hold records that the catalogue lacks."""
        self.lost: dict[str, str] = {}
        """Records that could not be read, or whose packet could not, and why: damage in the store."""

    def start(self) -> None:
        """Brings the database up to date, in form and in content."""
        self.database.migrate()
        self.catch_up()

    def close(self) -> None:
        """Lets go of the database."""
        self.database.close()

    def check(self) -> None:
        """Raises StorageError unless database and store answer; brings in what a failure left behind."""
        self.database.check()
        self.store.check()
        if self.behind:
            self.catch_up()

    def publish(self, digest: str, file: Path, caller: Caller) -> tuple[PacketRow, bool]:
        """Takes a packet in; the file may be moved away. Returns its row, and whether anything is new.

        Raises:
            Unacceptable: not a packet, or not the one that the digest names.
            TrustError: the policy does not accept it.
            Conflict: it lacks signatures that are here already. Gone: it is revoked.
        """
        packet = load_packet(file)
        if packet.digest != digest:
            raise Unacceptable(
                f"this is the packet {packet.digest}, expected {digest}; publish it as what it is"
            )
        trusted = None
        if self.policy is not None:
            verdict = judge_packet(packet, self.policy)
            verdict.require("the packet")
            trusted = verdict.trusted
        blob, size = file_digest(file), file.stat().st_size
        with self.database.read() as session:
            if (known := self._before(session, packet, digest, blob)) is not None:
                return known, False
        labels = {"title": f"{packet.manifest.name}.m2kp", "packet": digest}
        self.store.put("packets", blob, file, labels)
        record = Published(by=caller.name, packet=digest, blob=blob, size=size, trusted=trusted)
        with self._recording() as session:
            if (known := self._before(session, packet, digest, blob)) is not None:
                return known, False
            self._record(session, record, Loaded(lambda _: packet))
            return session.get_one(PacketRow, digest), True

    def state(self, digest: str, envelope: bytes, caller: Caller) -> tuple[str, bool]:
        """Takes a signed statement about a packet; its digest, and whether it is new."""
        try:
            statement = verify_statement(envelope, packet=digest)
        except PacketError as error:
            raise Unacceptable(str(error)) from error
        name = digest_of(envelope)
        with self._recording() as session:
            self.row(session, digest)
            if session.get(StatementRow, name) is not None:
                return name, False
            count = select(func.count()).where(StatementRow.packet == digest)
            if (session.scalar(count) or 0) >= MAX_STATEMENTS:
                raise Conflict(
                    f"{digest} has {MAX_STATEMENTS} statements, the most that are kept of one packet"
                )
            record = Stated(by=caller.name, packet=statement.packet, envelope=envelope.decode())
            self._record(session, record)
            return name, True

    def notice(self, digest: str, state: State, reason: str, caller: Caller) -> PacketRow:
        """Changes a packet's state. Its publisher may, and every admin.

        Raises:
            Conflict: it is revoked, which is for ever.
        """
        with self._recording() as session:
            row = self.row(session, digest)
            if caller.role != "admin" and caller.name != row.publisher:
                raise Forbidden(
                    f"{digest} was published by {row.publisher}; only they or an admin may change its state"
                )
            if row.state == "revoked" and state != "revoked":
                raise Conflict(f"{digest} is revoked, which is for ever; publish another packet")
            if (row.state, row.state_reason) != (state, reason) and row.state != "revoked":
                self._record(session, Noticed(by=caller.name, packet=digest, state=state, reason=reason))
            return row

    def make_key(self, name: str, role: Role, by: str) -> tuple[KeyMade, str]:
        """A new API key: what is kept of it, and the secret, which is shown once."""
        if not (0 < len(name) <= 128 and is_plain(name)):
            raise Unacceptable(f"expected a name of 1 to 128 characters on one line, came {name[:40]!r}")
        identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        token = f"m2kt_{identity}_{secret}"
        record = KeyMade(by=by, id=identity, name=name, role=role, sha256=hashed(token))
        with self._recording() as session:
            taken = select(KeyRow).where(KeyRow.name == name, KeyRow.ended_at.is_(None))
            if session.scalar(taken) is not None:
                raise Conflict(
                    f"a key called {name} is there already; choose another name, or end that one first"
                )
            self._record(session, record)
        return record, token

    def end_key(self, identity: str, by: str) -> None:
        """Takes a key back, by its id."""
        with self._recording() as session:
            if session.get(KeyRow, identity) is None:
                raise NotFound(f"there is no key {identity}; m2kt broker keys list shows them")
            self._record(session, KeyEnded(by=by, id=identity))

    def list_keys(self) -> list[dict[str, str | None]]:
        """All keys ever made, oldest first, without what opens anything."""
        with self.database.read() as session:
            rows = session.scalars(select(KeyRow).order_by(KeyRow.created_at, KeyRow.id))
            names = ("id", "name", "role", "created_at", "ended_at")
            return [{name: getattr(row, name) for name in names} for row in rows]

    def row(self, session: Session, digest: str) -> PacketRow:
        """A packet's row. Raises NotFound."""
        row = session.get(PacketRow, digest)
        if row is None:
            raise NotFound(f"there is no packet {digest} here")
        return row

    def catch_up(self) -> int:
        """Brings every record of the store into the catalogue; how many it lacked.

        One that cannot be read is left out and said: it must not keep all others from being found.
        """
        with self.database.read() as session:
            known = set(session.scalars(select(RecordRow.digest)))
        self.lost = {}
        missing: list[tuple[Record, str]] = []
        for digest in self.store.digests("records"):
            if digest not in known:
                with self._losing(digest):
                    missing.append((self._stored_record(digest), digest))
        missing.sort(key=lambda item: (ORDER.index(item[0].kind), *by_time(*item)))
        for record, digest in missing:
            with self._losing(digest), self.database.write() as session:
                apply(session, record, digest, Loaded(self._stored_packet))
        self.behind = False
        return len(missing)

    def damaged(self) -> list[str]:
        """What in the store is not what its name says; every byte is read."""
        found = []
        for kind in KINDS:
            for digest in self.store.digests(kind):
                seen = hashlib.sha256()
                for piece in self.store.read(kind, digest):
                    seen.update(piece)
                if f"sha256:{seen.hexdigest()}" != digest:
                    found.append(f"{kind} {digest}")
        return sorted(found)

    @contextmanager
    def _losing(self, digest: str) -> Iterator[None]:
        try:
            yield
        except (Unacceptable, PacketError, ValueError, NoResultFound) as error:
            self.lost[digest] = explain(error)
            log.warning("lost", record=digest, reason=explain(error))

    def _stored_record(self, digest: str) -> Record:
        content = read_all(self.store, "records", digest)
        if digest_of(content) != digest:
            raise ValueError("its bytes are not those that its name says")
        return parse_record(content)

    def reindex(self) -> int:
        """Empties the catalogue and fills it from the store; how many records there are."""
        with self.database.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(table.delete())
        return self.catch_up()

    @contextmanager
    def _recording(self) -> Iterator[Session]:
        """A transaction that may store a record. Should it then fail, the next one first brings that record in."""
        if self.behind:
            self.catch_up()
        with self.database.write() as session:
            try:
                yield session
                session.commit()
            except BaseException:
                self.behind = self.behind or "stored" in session.info
                raise

    def _stored_packet(self, blob: str) -> Packet:
        return stored_packet(self.store, blob)

    def _before(self, session: Session, packet: Packet, digest: str, blob: str) -> PacketRow | None:
        """The packet's row where the catalogue holds these very bytes; None where they bring something new."""
        row = session.get(PacketRow, digest)
        if row is None:
            return None
        if row.state == "revoked":
            raise Gone(f"{digest} was revoked at {row.state_at}: {row.state_reason}")
        if row.blob == blob:
            return row
        assert packet.signature is not None
        lacking = sorted({s.keyid for s in row.signers} - set(packet.signature.keyids))
        if lacking:
            raise Conflict(
                f"{digest} is here with signatures that this copy lacks: {', '.join(lacking)}; pull it, sign that"
            )
        return None

    def _record(self, session: Session, record: Record, loaded: Loaded | None = None) -> None:
        content = record.to_bytes()
        digest = digest_of(content)
        self.store.put("records", digest, content)
        session.info["stored"] = True
        apply(session, record, digest, loaded or Loaded(self._stored_packet))


def by_time(record: Record, digest: str) -> tuple[str, str]:
    """The order in which records of one kind are read; the outcome does not depend on it, which a test shows."""
    return record.at, digest
