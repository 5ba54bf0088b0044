"""Tables of the catalogue. Primary keys derive from stored content, so that a rebuilt database is identical."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from .._records import Role, State

MAX_TEXT = 200
"""Maximum length of an indexed text of a packet, for database indices are bounded; the manifest has the full text."""
MAX_SPACE = MAX_TEXT + 20

NAMING_CONVENTION = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base class of all tables."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012  SQLAlchemy requires it


class RecordRow(Base):
    """A record of the store that has been applied to the catalogue."""

    __tablename__ = "records"

    digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    at: Mapped[str] = mapped_column(String(40))
    by: Mapped[str] = mapped_column(String(128), index=True, doc="Name of the API key, for its quota.")
    size: Mapped[int] = mapped_column(BigInteger, doc="Bytes that it added to the store.")


class PacketRow(Base):
    """A packet: the fields that lists and pages show."""

    __tablename__ = "packets"

    digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    blob: Mapped[str] = mapped_column(String(71), doc="Digest of the single-file form.")
    size: Mapped[int] = mapped_column(BigInteger)
    published_at: Mapped[str] = mapped_column(String(40), index=True)
    publisher: Mapped[str] = mapped_column(String(128))
    state: Mapped[State] = mapped_column(String(16), index=True, default="listed")
    state_reason: Mapped[str | None] = mapped_column(Text)
    state_at: Mapped[str | None] = mapped_column(String(40))
    state_by: Mapped[str | None] = mapped_column(String(128))
    state_envelope: Mapped[str | None] = mapped_column(Text, doc="The signed notice behind the state.")
    skill: Mapped[str] = mapped_column(String(MAX_TEXT), index=True)
    description: Mapped[str] = mapped_column(Text)
    teacher: Mapped[str] = mapped_column(String(MAX_TEXT), index=True)
    teacher_digest: Mapped[str] = mapped_column(String(MAX_TEXT), index=True)
    architecture: Mapped[str] = mapped_column(Text)
    licence: Mapped[str | None] = mapped_column(String(MAX_TEXT), index=True)
    space: Mapped[str] = mapped_column(
        String(MAX_SPACE), index=True, doc="Digest of the teacher and layer of the vectors."
    )
    width: Mapped[int] = mapped_column(Integer)
    concepts: Mapped[int] = mapped_column(Integer)
    verbalised: Mapped[float] = mapped_column(Float)
    fidelity: Mapped[float | None] = mapped_column(Float, doc="Agreement times coverage.")
    manifest: Mapped[dict[str, Any]] = mapped_column()
    card: Mapped[str] = mapped_column(Text)

    signers: Mapped[list[SignerRow]] = relationship(order_by="SignerRow.keyid", lazy="selectin")
    forms: Mapped[list[FormRow]] = relationship(order_by="FormRow.at, FormRow.blob")
    notices: Mapped[list[NoticeRow]] = relationship(order_by="NoticeRow.at, NoticeRow.record")
    statements: Mapped[list[StatementRow]] = relationship(order_by="StatementRow.at, StatementRow.digest")


class FormRow(Base):
    """A stored single-file form of a packet: one author's statement about the same parts, and signatures of others."""

    __tablename__ = "forms"

    blob: Mapped[str] = mapped_column(String(71), primary_key=True, doc="Digest of the single-file form.")
    packet: Mapped[str] = mapped_column(ForeignKey("packets.digest"), index=True)
    author: Mapped[str] = mapped_column(String(64), doc="Id of the key that made the signed statement.")
    keyids: Mapped[list[str]] = mapped_column(doc="Ids of all signers.")
    release: Mapped[int] = mapped_column(BigInteger, doc="Number of the author's release; 0: none.")
    size: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[str] = mapped_column(String(40))
    by: Mapped[str] = mapped_column(String(128))


class NoticeRow(Base):
    """A change of a packet's state, by one of its authors or by an admin."""

    __tablename__ = "notices"

    record: Mapped[str] = mapped_column(String(71), primary_key=True)
    packet: Mapped[str] = mapped_column(ForeignKey("packets.digest"), index=True)
    state: Mapped[State] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[str] = mapped_column(String(40))
    by: Mapped[str] = mapped_column(String(128))
    by_admin: Mapped[bool] = mapped_column()
    keyids: Mapped[list[str]] = mapped_column()
    stated_at: Mapped[str] = mapped_column(String(40), doc="Time in the notice itself.")
    envelope: Mapped[str | None] = mapped_column(Text)


class SignerRow(Base):
    """A key that signed the form of a packet that is served."""

    __tablename__ = "signers"

    packet: Mapped[str] = mapped_column(ForeignKey("packets.digest"), primary_key=True)
    keyid: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    writer: Mapped[bool] = mapped_column(doc="Whether the packet names this key as its author's.")


class LabelRow(Base):
    """A searchable text: a symbol, or the name of a rule, of the skill or of the teacher."""

    __tablename__ = "labels"

    packet: Mapped[str] = mapped_column(ForeignKey("packets.digest"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    text: Mapped[str] = mapped_column(String(MAX_TEXT), primary_key=True)
    folded: Mapped[str] = mapped_column(Text)


class VectorsRow(Base):
    """The concept vectors of a packet as float32, and the name of each concept."""

    __tablename__ = "vectors"

    packet: Mapped[str] = mapped_column(ForeignKey("packets.digest"), primary_key=True)
    space: Mapped[str] = mapped_column(String(MAX_SPACE), index=True)
    vectors_KD: Mapped[bytes] = mapped_column(LargeBinary)
    names: Mapped[list[str]] = mapped_column()


class StatementRow(Base):
    """A signed statement about a packet: an evaluation, a verdict, a receipt."""

    __tablename__ = "statements"
    __table_args__ = (Index("ix_statements_packet_verdict", "packet", "verdict"),)

    digest: Mapped[str] = mapped_column(String(71), primary_key=True, doc="Digest of the envelope.")
    packet: Mapped[str] = mapped_column(ForeignKey("packets.digest"))
    kind: Mapped[str] = mapped_column(String(64), doc="Predicate type.")
    at: Mapped[str] = mapped_column(String(40))
    by: Mapped[str] = mapped_column(String(128))
    keyids: Mapped[list[str]] = mapped_column()
    verdict: Mapped[str | None] = mapped_column(String(16))
    student: Mapped[str | None] = mapped_column(Text)
    student_digest: Mapped[str | None] = mapped_column(String(MAX_TEXT))
    adapter: Mapped[str | None] = mapped_column(String(MAX_TEXT), doc="Digest of the adapter that an ingestion wrote.")
    accuracy: Mapped[float | None] = mapped_column(Float)
    envelope: Mapped[str] = mapped_column(Text, deferred=True)


class StatementSignerRow(Base):
    """A key that signed a statement."""

    __tablename__ = "statement_signers"

    statement: Mapped[str] = mapped_column(ForeignKey("statements.digest"), primary_key=True)
    keyid: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)


class KeyRow(Base):
    """An API key; its secret is not stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    role: Mapped[Role] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[str] = mapped_column(String(40))
    ended_at: Mapped[str | None] = mapped_column(String(40))
