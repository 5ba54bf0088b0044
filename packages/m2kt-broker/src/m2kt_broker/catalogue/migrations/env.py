"""The alembic environment; :meth:`Database.migrate` passes the connection."""

from __future__ import annotations

from alembic import context

from m2kt_broker.catalogue import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
