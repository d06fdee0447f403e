"""The schema of a database, and its migration forward or back.

Decision 20 says which programs may work with which schema: one whose newest revision it is, and one
that is older, as long as every change since leaves what it needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, select, text

from scheduler.store.admin_models import SchemaRule

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Alembic's own table, with the revision that a database has.
VERSION_TABLE = "alembic_version"
#: Words for the newest revision, and for none.
HEAD, BASE = "head", "base"
#: An arbitrary number: the lock under which migrations of one PostgreSQL database take turns.
_LOCK = 7_103_861
_MIGRATIONS = Path(__file__).parent / "migrations"


class SchemaError(Exception):
    """This program cannot work with the database's schema; the message says what to do."""


def known() -> list[str]:
    """Return every revision that this program knows, the oldest first."""
    # From the names of the files: every process needs this at its start, without Alembic.
    return sorted(path.name.partition("_")[0] for path in _MIGRATIONS.glob("versions/[0-9]*_*.py"))


def revision_of(connection: Connection) -> str | None:
    """Return the revision of a database; None where it has no tables yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return revision


def change(connection: Connection, to: str = HEAD) -> None:
    """Bring a database to a revision, forward or back, in the caller's transaction.

    `connection`: in a transaction that the caller ends; `to`: `head`, `base`, a revision, or `-1`
    for the one before.

    Raises SchemaError: there is no such revision, or the database's is not known.
    """
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    revisions, current = known(), revision_of(connection)
    if to == HEAD and current is not None and current not in revisions:
        # A newer release has migrated it; this one needs nothing where it can work with that.
        check(connection)
        return
    target = _target(revisions, current, to)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    here = 0 if current is None else revisions.index(current) + 1
    there = 0 if target == BASE else revisions.index(target) + 1
    if there >= here:
        command.upgrade(config, target)
    else:
        try:
            command.downgrade(config, target)
        except ValueError as error:
            raise SchemaError(str(error)) from error


def _target(revisions: list[str], current: str | None, to: str) -> str:
    if current is not None and current not in revisions:
        raise SchemaError(
            f"The database is at revision {current}, which this Simherd does not know: it knows "
            f"them up to {revisions[-1]}. Migrate with the Simherd that made it so."
        )
    if to == HEAD:
        return revisions[-1]
    if to == "-1":
        before = [BASE, *revisions[: revisions.index(current)]] if current else [BASE]
        return before[-1]
    if to != BASE and to not in revisions:
        choices = ", ".join([HEAD, BASE, "-1", *revisions])
        raise SchemaError(f"to: there is no revision {to!r}. There are: {choices}.")
    return to


def check(connection: Connection) -> None:
    """Refuse a database that this program cannot work with.

    Raises SchemaError: its schema is older than this program, or so new that it needs a newer one.
    """
    revisions, current = known(), revision_of(connection)
    if current == revisions[-1]:
        return
    if current is None or current in revisions:
        raise SchemaError(
            f"The database is at revision {current or BASE}, and this Simherd needs "
            f"{revisions[-1]}. Run `simherd-scheduler migrate`."
        )
    oldest = None
    if inspect(connection).has_table(SchemaRule.__tablename__):
        oldest = connection.scalar(select(SchemaRule.oldest))
    if oldest not in revisions:
        raise SchemaError(
            f"The database is at revision {current}, which is newer than this Simherd, and needs "
            f"one that knows {oldest or current}; this one knows them up to {revisions[-1]}. "
            "Upgrade this one, or migrate back with the newer one (`simherd-scheduler migrate "
            f"--to {revisions[-1]}`)."
        )
