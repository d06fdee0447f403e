"""A database in memory, for tests of queries that decide something."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import scheduler.store.admin_models  # noqa: F401 - its tables are among those that are made
from scheduler.store.models import Base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


@functools.cache
def _engine() -> Engine:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    return engine


@contextmanager
def memory_session() -> Iterator[Session]:
    """A session on an empty SQLite database of the newest schema; nothing written stays."""
    with Session(_engine(), expire_on_commit=False) as session:
        yield session


class MemoryStore:
    """Stands in for a `Store`: every session that it gives is the one it was made with."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """The session."""
        yield self._session
        self._session.flush()

    write = read
