"""Tables of the catalogue. Every key comes from what is stored, none is counted up: so rebuilding is exact."""

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

SHOWN = 200
"""Characters of a stranger's text that are kept for finding; the rest is in the manifest. Indices take no more."""
SPACE = SHOWN + 20

NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Of all tables."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012  SQLAlchemy's own spelling


class RecordRow(Base):
    """Which records of the store the catalogue holds already."""

    __tablename__ = "records"

    digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    at: Mapped[str] = mapped_column(String(40))


class PacketRow(Base):
    """A packet: what can be filtered and shown without its bytes."""

    __tablename__ = "packets"

    digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    blob: Mapped[str] = mapped_column(String(71), doc="Digest of the bytes that are handed out.")
    size: Mapped[int] = mapped_column(BigInteger)
    published_at: Mapped[str] = mapped_column(String(40), index=True)
    publisher: Mapped[str] = mapped_column(String(128))
    state: Mapped[str] = mapped_column(String(16), index=True, default="listed")
    state_reason: Mapped[str | None] = mapped_column(Text)
    state_at: Mapped[str | None] = mapped_column(String(40))
    state_by: Mapped[str | None] = mapped_column(String(128))
    skill: Mapped[str] = mapped_column(String(SHOWN), index=True)
    description: Mapped[str] = mapped_column(Text)
    teacher: Mapped[str] = mapped_column(String(SHOWN), index=True)
    teacher_digest: Mapped[str] = mapped_column(String(SHOWN), index=True)
    architecture: Mapped[str] = mapped_column(Text)
    licence: Mapped[str | None] = mapped_column(String(SHOWN), index=True)
    space: Mapped[str] = mapped_column(
        String(SPACE), index=True, doc="Teacher and layer that vectors come from."
    )
    width: Mapped[int] = mapped_column(Integer)
    concepts: Mapped[int] = mapped_column(Integer)
    verbalised: Mapped[float] = mapped_column(Float)
    fidelity: Mapped[float | None] = mapped_column(Float, doc="Agreement times coverage.")
    manifest: Mapped[dict[str, Any]] = mapped_column()
    card: Mapped[str] = mapped_column(Text)

    signers: Mapped[list[SignerRow]] = relationship(order_by="SignerRow.keyid", lazy="selectin")
    statements: Mapped[list[StatementRow]] = relationship(order_by="StatementRow.at, StatementRow.digest")


class SignerRow(Base):
    """A key that signed a packet."""

    __tablename__ = "signers"

    packet: Mapped[str] = mapped_column(ForeignKey("packets.digest"), primary_key=True)
    keyid: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    writer: Mapped[bool] = mapped_column(doc="Whether the packet names it as its maker.")


class LabelRow(Base):
    """A word that finds a packet: a symbol, the name of a rule, of the skill, of the teacher."""

    __tablename__ = "labels"

    packet: Mapped[str] = mapped_column(ForeignKey("packets.digest"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    text: Mapped[str] = mapped_column(String(SHOWN), primary_key=True)
    folded: Mapped[str] = mapped_column(Text)


class VectorsRow(Base):
    """The K concept vectors of a packet, float32, row by row, and what each row stands for."""

    __tablename__ = "vectors"

    packet: Mapped[str] = mapped_column(ForeignKey("packets.digest"), primary_key=True)
    space: Mapped[str] = mapped_column(String(SPACE), index=True)
    vectors_KD: Mapped[bytes] = mapped_column(LargeBinary)
    names: Mapped[list[str]] = mapped_column()


class StatementRow(Base):
    """A signed statement about a packet: an evaluation, a verdict, a receipt."""

    __tablename__ = "statements"
    __table_args__ = (Index("ix_statements_packet_verdict", "packet", "verdict"),)

    digest: Mapped[str] = mapped_column(String(71), primary_key=True, doc="Of the envelope.")
    packet: Mapped[str] = mapped_column(ForeignKey("packets.digest"))
    kind: Mapped[str] = mapped_column(String(64), doc="Predicate type.")
    at: Mapped[str] = mapped_column(String(40))
    by: Mapped[str] = mapped_column(String(128))
    keyids: Mapped[list[str]] = mapped_column()
    verdict: Mapped[str | None] = mapped_column(String(16))
    student: Mapped[str | None] = mapped_column(Text)
    student_digest: Mapped[str | None] = mapped_column(String(SHOWN))
    adapter: Mapped[str | None] = mapped_column(String(SHOWN), doc="Digest of what an ingest wrote.")
    accuracy: Mapped[float | None] = mapped_column(Float)
    envelope: Mapped[str] = mapped_column(Text, deferred=True)


class KeyRow(Base):
    """An API key. The secret itself is nowhere."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    role: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[str] = mapped_column(String(40))
    ended_at: Mapped[str | None] = mapped_column(String(40))
