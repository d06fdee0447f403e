"""The database connection: SQLite in WAL mode embedded, PostgreSQL in a deployment."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import sessionmaker

from scheduler.store.schema import HEAD, change
from scheduler.store.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

#: Seconds a SQLite writer waits for another process' transaction.
_SQLITE_BUSY_S = 30


def open_engine(url: str) -> Engine:
    """Return an engine for `url`; SQLite gets WAL, foreign keys and immediate transactions."""
    if not url.startswith("sqlite"):
        return create_engine(
            url, pool_pre_ping=True, pool_size=10, max_overflow=20, hide_parameters=True
        )
    # The parameters hold what users have sent: they stay out of errors, and so of logs.
    engine = create_engine(url, connect_args={"timeout": _SQLITE_BUSY_S}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction handling would begin too late; see _begin_sqlite.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    # A deferred transaction that turns into a write one fails at once when another process
    # has written since; an immediate one waits its turn.
    writes = connection.get_execution_options().get("writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Store:
    """Sessions on the task store."""

    def __init__(
        self, engine: Engine, after_commit: Callable[[UnitOfWork], None] = lambda _: None
    ) -> None:
        """Open no connection yet; `after_commit` gets each unit of work that is through."""
        self.engine = engine
        self._after_commit = after_commit
        self._write = sessionmaker(engine, class_=UnitOfWork, expire_on_commit=False)
        self._read = sessionmaker(engine.execution_options(writes=False), expire_on_commit=False)

    @contextmanager
    def write(self) -> Iterator[UnitOfWork]:
        """A session in one transaction: committed at the end, rolled back on an error."""
        with self._write.begin() as unit:
            yield unit
        self._after_commit(unit)

    def clock(self) -> float:
        """Return the epoch seconds of the one clock that all processes of the database share."""
        if self.engine.dialect.name != "postgresql":
            return time.time()  # they are on one machine
        with self.read() as session:
            return float(session.scalar(text("SELECT extract(epoch FROM clock_timestamp())")))

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading."""
        with self._read() as session:
            yield session


def migrate(url: str, to: str = HEAD) -> None:
    """Bring the database at `url` to a revision: the newest, or see `schema.change`.
    Raises SchemaError: there is no such revision, or the database's is not known."""
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            change(connection, to)
    finally:
        engine.dispose()
