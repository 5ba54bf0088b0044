"""Initial tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
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
    op.create_table(
        "packets",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("blob", sa.String(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("published_at", sa.String(length=40), nullable=False),
        sa.Column("publisher", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("state_at", sa.String(length=40), nullable=True),
        sa.Column("state_by", sa.String(length=128), nullable=True),
        sa.Column("skill", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("teacher", sa.String(length=200), nullable=False),
        sa.Column("teacher_digest", sa.String(length=200), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("licence", sa.String(length=200), nullable=True),
        sa.Column("space", sa.String(length=220), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("concepts", sa.Integer(), nullable=False),
        sa.Column("verbalised", sa.Float(), nullable=False),
        sa.Column("fidelity", sa.Float(), nullable=True),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_packets")),
    )
    with op.batch_alter_table("packets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_packets_licence"), ["licence"], unique=False)
        batch_op.create_index(batch_op.f("ix_packets_published_at"), ["published_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_packets_skill"), ["skill"], unique=False)
        batch_op.create_index(batch_op.f("ix_packets_space"), ["space"], unique=False)
        batch_op.create_index(batch_op.f("ix_packets_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_packets_teacher"), ["teacher"], unique=False)
        batch_op.create_index(batch_op.f("ix_packets_teacher_digest"), ["teacher_digest"], unique=False)

    op.create_table(
        "records",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_records")),
    )
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
        sa.Column("keyid", sa.String(length=64), nullable=False),
        sa.Column("writer", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["packet"], ["packets.digest"], name=op.f("fk_signers_packet_packets")),
        sa.PrimaryKeyConstraint("packet", "keyid", name=op.f("pk_signers")),
    )
    with op.batch_alter_table("signers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_signers_keyid"), ["keyid"], unique=False)

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
    with op.batch_alter_table("statements", schema=None) as batch_op:
        batch_op.create_index("ix_statements_packet_verdict", ["packet", "verdict"], unique=False)

    op.create_table(
        "vectors",
        sa.Column("packet", sa.String(length=71), nullable=False),
        sa.Column("space", sa.String(length=220), nullable=False),
        sa.Column("vectors_KD", sa.LargeBinary(), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["packet"], ["packets.digest"], name=op.f("fk_vectors_packet_packets")),
        sa.PrimaryKeyConstraint("packet", name=op.f("pk_vectors")),
    )
    with op.batch_alter_table("vectors", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_vectors_space"), ["space"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("vectors", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_vectors_space"))

    op.drop_table("vectors")
    with op.batch_alter_table("statements", schema=None) as batch_op:
        batch_op.drop_index("ix_statements_packet_verdict")

    op.drop_table("statements")
    with op.batch_alter_table("signers", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_signers_keyid"))

    op.drop_table("signers")
    op.drop_table("labels")
    op.drop_table("records")
    with op.batch_alter_table("packets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_packets_teacher_digest"))
        batch_op.drop_index(batch_op.f("ix_packets_teacher"))
        batch_op.drop_index(batch_op.f("ix_packets_state"))
        batch_op.drop_index(batch_op.f("ix_packets_space"))
        batch_op.drop_index(batch_op.f("ix_packets_skill"))
        batch_op.drop_index(batch_op.f("ix_packets_published_at"))
        batch_op.drop_index(batch_op.f("ix_packets_licence"))

    op.drop_table("packets")
    op.drop_table("api_keys")
