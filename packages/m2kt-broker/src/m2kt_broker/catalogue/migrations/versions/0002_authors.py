"""Authors of packets, signed notices, signers of statements, bytes of an API key.

The catalogue is a function of the store, so all its tables are made anew, and the start fills them.
"""

from __future__ import annotations

from alembic import op

from m2kt_broker.catalogue import Base

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("vectors", "statements", "signers", "labels", "records", "packets", "api_keys")


def upgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    Base.metadata.create_all(op.get_bind())


def downgrade() -> None:
    raise NotImplementedError("delete the database: the next start of the earlier release fills a new one")
