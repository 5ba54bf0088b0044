"""The database of the catalogue: SQLite or PostgreSQL, migrated by alembic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection as SQLiteConnection
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from m2kt.errors import SpecError, StorageError

BUSY_SECONDS = 30
CACHE_KIB = 256  # for each connection; every server thread may hold one
_WRITE_LOCK = text("select pg_advisory_xact_lock(20250)")


class Database:
    """Sessions of one database. Writers wait for each other; readers never wait."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise SpecError(f"expected a database URL such as sqlite:///broker.db, got {url!r}") from error
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        # at least one connection for each server thread; idle SQLite connections are cheap
        size = 50 if self.is_sqlite else 10
        options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": size, "max_overflow": 60 - size}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": BUSY_SECONDS}
        self.engine: Engine = create_engine(parsed, **options)
        self._writing = self.engine.execution_options(m2kt_begin="begin immediate")
        if self.is_sqlite:
            _prepare_sqlite(self.engine)

    def migrate(self) -> None:
        """Migrate the tables to the schema of this release. Raises StorageError."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with storage_errors(), self._writing.begin() as connection:
            if not self.is_sqlite:  # only one of several starting servers may migrate
                connection.execute(_WRITE_LOCK)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading."""
        with storage_errors(), Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session in one transaction. All servers together run one such transaction at a time."""
        with storage_errors(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            if not self.is_sqlite:
                session.execute(_WRITE_LOCK)
            yield session

    def check(self) -> None:
        """Raise StorageError unless the database responds."""
        with self.read() as session:
            session.execute(text("select 1"))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn connection errors into StorageError."""
    try:
        yield
    except (OperationalError, DBAPIError) as error:
        if isinstance(error, OperationalError) or error.connection_invalidated:
            reason = str(error.orig).strip().splitlines()[0]
            raise StorageError(f"the database does not respond ({reason}); try again later") from error
        raise


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: SQLiteConnection, _: object) -> None:
        connection.isolation_level = None  # the begin event starts transactions, not the sqlite3 module
        for pragma in ("journal_mode=wal", "synchronous=full", "foreign_keys=on", f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"pragma {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("m2kt_begin", "begin"))
