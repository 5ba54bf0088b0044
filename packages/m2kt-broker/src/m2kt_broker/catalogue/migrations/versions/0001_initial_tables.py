"""Initial tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_packets()
    _create_packet_parts()
    _create_statements()
    _create_records()


def _create_packets() -> None:
    op.create_table(
        "packets",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("blob", sa.String(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("published_at", sa.String(length=40), nullable=False, index=True),
        sa.Column("publisher", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False, index=True),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("state_at", sa.String(length=40), nullable=True),
        sa.Column("state_by", sa.String(length=128), nullable=True),
        sa.Column("skill", sa.String(length=200), nullable=False, index=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("teacher", sa.String(length=200), nullable=False, index=True),
        sa.Column("teacher_digest", sa.String(length=200), nullable=False, index=True),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("licence", sa.String(length=200), nullable=True, index=True),
        sa.Column("space", sa.String(length=220), nullable=False, index=True),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("concepts", sa.Integer(), nullable=False),
        sa.Column("verbalised", sa.Float(), nullable=False),
        sa.Column("fidelity", sa.Float(), nullable=True),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_packets")),
    )


def _create_packet_parts() -> None:
    op.create_table(
        "labels",
        sa.Column("packet", sa.String(length=71), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("text", sa.String(length=200), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["packet"], ["packets.digest"], name=op.f("fk_labels_packet_packets")),
        sa.PrimaryKeyConstraint("packet", "kind", "text", name=op.f("pk_labels")),
    )
    op.create_table(
        "signers",
        sa.Column("packet", sa.String(length=71), nullable=False),
        sa.Column("keyid", sa.String(length=64), nullable=False, index=True),
        sa.Column("writer", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["packet"], ["packets.digest"], name=op.f("fk_signers_packet_packets")),
        sa.PrimaryKeyConstraint("packet", "keyid", name=op.f("pk_signers")),
    )
    op.create_table(
        "vectors",
        sa.Column("packet", sa.String(length=71), nullable=False),
        sa.Column("space", sa.String(length=220), nullable=False, index=True),
        sa.Column("vectors_KD", sa.LargeBinary(), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["packet"], ["packets.digest"], name=op.f("fk_vectors_packet_packets")),
        sa.PrimaryKeyConstraint("packet", name=op.f("pk_vectors")),
    )


def _create_statements() -> None:
    op.create_table(
        "statements",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("packet", sa.String(length=71), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("at", sa.String(length=40), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("keyids", sa.JSON(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("student", sa.Text(), nullable=True),
        sa.Column("student_digest", sa.String(length=200), nullable=True),
        sa.Column("adapter", sa.String(length=200), nullable=True),
        sa.Column("accuracy", sa.Float(), nullable=True),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["packet"], ["packets.digest"], name=op.f("fk_statements_packet_packets")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_statements")),
    )
    op.create_index("ix_statements_packet_verdict", "statements", ["packet", "verdict"])


def _create_records() -> None:
    op.create_table(
        "records",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_records")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=40), nullable=False),
        sa.Column("ended_at", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_keys_sha256")),
    )


def downgrade() -> None:
    for table in ("vectors", "statements", "signers", "labels", "records", "packets", "api_keys"):
        op.drop_table(table)
