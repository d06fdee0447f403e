"""The database connection: SQLite in WAL mode embedded, PostgreSQL in a deployment."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from scheduler.metrics.instruments import flush
from scheduler.store.outbox import JOBS
from scheduler.store.schema import HEAD, change

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from simherd.contract.lifecycle import Status

#: Seconds a SQLite writer waits for another process' transaction.
_SQLITE_BUSY_S = 30


def open_engine(url: str) -> Engine:
    """An engine for `url`; SQLite gets WAL, foreign keys and immediate transactions."""
    if not url.startswith("sqlite"):
        return create_engine(
            url, pool_pre_ping=True, pool_size=10, max_overflow=20, hide_parameters=True
        )
    # What users have sent is in the parameters: errors, and so logs, leave them out.
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


#: Under this name a session notes the tasks whose status it changes, and what it is then.
CHANGED = "changed"


class Store:
    """Sessions on the task store."""

    def __init__(
        self,
        engine: Engine,
        send_job: Callable[[str], None] | None = None,
        announce: Callable[[dict[str, Status]], None] | None = None,
    ) -> None:
        """What is done after a commit: `send_job` sends a background job that the transaction has
        noted in its `JOBS`, `announce` is told of the tasks in its `CHANGED`."""
        self.engine = engine
        self._send_job = send_job
        self._announce = announce
        self._write = sessionmaker(engine, expire_on_commit=False)
        self._read = sessionmaker(engine.execution_options(writes=False), expire_on_commit=False)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session in one transaction: committed at the end, rolled back on an error."""
        with self._write.begin() as session:
            yield session
        flush(session)
        # What is told must be there first.
        changed = session.info.pop(CHANGED, None)
        if changed and self._announce is not None:
            self._announce(changed)
        for name in session.info.pop(JOBS, ()):
            if self._send_job is not None:
                self._send_job(name)

    def clock(self) -> float:
        """Seconds since the epoch, by the one clock of all processes that share the database."""
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

    Raises:
        SchemaError: there is no such revision, or the database's own is not known.
    """
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            change(connection, to)
    finally:
        engine.dispose()
