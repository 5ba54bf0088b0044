"""The database behind the catalogue: SQLite by default, PostgreSQL by URL; alembic brings either up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from m2kt.errors import SpecError, StorageError

BUSY_SECONDS = 30
CACHE_KIB = 256  # a connection; there may be as many as threads
_LOCK = text("select pg_advisory_xact_lock(20250)")


class Database:
    """Sessions on one database. Writers wait for each other; readers do not wait."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise SpecError(f"expected a database URL such as sqlite:///broker.db, came {url!r}") from error
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        # a connection a thread of the server, and some; SQLite's cost nothing to keep
        size = 50 if self.is_sqlite else 10
        options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": size, "max_overflow": 60 - size}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": BUSY_SECONDS}
        self.engine: Engine = create_engine(parsed, **options)
        self._writing = self.engine.execution_options(m2kt_begin="begin immediate")
        if self.is_sqlite:
            _prepare_sqlite(self.engine)

    def migrate(self) -> None:
        """Brings tables to the form that this release expects. Raises StorageError."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with reachable(), self._writing.begin() as connection:
            if not self.is_sqlite:  # two servers that start at once must not both migrate
                connection.execute(_LOCK)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that changes nothing."""
        with reachable(), Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are there all at once, at its end. One writer at a time, over all servers."""
        with reachable(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            if not self.is_sqlite:
                session.execute(_LOCK)
            yield session

    def check(self) -> None:
        """Raises StorageError where the database does not answer."""
        with self.read() as session:
            session.execute(text("select 1"))

    def close(self) -> None:
        """Lets go of all connections."""
        self.engine.dispose()


@contextmanager
def reachable() -> Iterator[None]:
    """Turns a database that does not answer into a StorageError."""
    try:
        yield
    except (OperationalError, DBAPIError) as error:
        if isinstance(error, OperationalError) or error.connection_invalidated:
            reason = str(error.orig).strip().splitlines()[0]
            raise StorageError(f"the database does not answer ({reason}); try again when it does") from error
        raise


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are ours: begun by what begins them, not by guess
        for pragma in ("journal_mode=wal", "synchronous=full", "foreign_keys=on", f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"pragma {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("m2kt_begin", "begin"))
