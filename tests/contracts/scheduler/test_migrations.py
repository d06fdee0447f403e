"""Migrations forward and back on both databases, and who may work with which schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, func, insert, select, text
from sqlalchemy.exc import DBAPIError

from scheduler.store import schema
from scheduler.store.admin_models import AuditEntry
from scheduler.store.engine import Store, migrate, open_engine
from scheduler.store.models import Base, GroupRow, TaskRow, User
from tests.support.builders import make_group, make_task

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


def _tables(connection: Connection) -> MetaData:
    found = MetaData()
    found.reflect(connection)
    return found


def _fill(connection: Connection) -> dict[str, int]:
    """A row in every table that the oldest version has; return table → rows."""
    tables = _tables(connection)
    for table in tables.sorted_tables:
        if table.name == "alembic_version":
            continue
        row: dict[str, Any] = {}
        for column in table.columns:
            if column.autoincrement is True or (column.primary_key and table.name != "users"):
                row[column.name] = 1 if column.type.python_type is int else "1"
            elif not column.nullable:
                row[column.name] = {int: 1, float: 1.0, bool: True, str: "1"}.get(
                    column.type.python_type, {}
                )
        connection.execute(insert(table), row)
    return _counts(connection)


def _counts(connection: Connection) -> dict[str, int]:
    return {
        table.name: connection.scalar(select(func.count()).select_from(table)) or 0
        for table in _tables(connection).sorted_tables
    }


@pytest.fixture
def engine(database_url: str) -> Engine:
    return open_engine(database_url)


def test_migrations_are_named_after_their_revisions() -> None:
    folder = Path(schema.__file__).parent / "migrations"
    walked = [script.revision for script in ScriptDirectory(str(folder)).walk_revisions()]
    assert schema.known() == walked[::-1]


def test_every_step_forward_and_back_keeps_the_rows_of_the_oldest_version(engine: Engine) -> None:
    revisions = schema.known()
    with engine.begin() as connection:
        schema.change(connection, revisions[0])
        rows = _fill(connection)
    for to in (*revisions[1:], *reversed(revisions[:-1]), schema.HEAD):
        with engine.begin() as connection:
            schema.change(connection, to)
            assert rows.items() <= _counts(connection).items(), to
    with engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        for _ in revisions:
            schema.change(connection, "-1")
        assert set(_counts(connection)) <= {"alembic_version"}
    engine.dispose()


def test_what_the_programs_write_is_kept_on_the_way_to_the_oldest_version(
    database_url: str, engine: Engine
) -> None:
    migrate(database_url)
    store = Store(engine)
    with store.write() as session:
        task = make_task(session, make_group(session))
    migrate(database_url, "0001")
    migrate(database_url)
    with store.read() as session:
        assert session.scalar(select(TaskRow.id)) == task.id
        assert session.scalar(select(GroupRow.reconnect_s)) == 600
    engine.dispose()


def test_a_step_that_fails_leaves_everything_as_it_was(database_url: str, engine: Engine) -> None:
    migrate(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET disabled_at = 1"))
    with pytest.raises(schema.SchemaError, match="1 users are disabled: enable them first"):
        migrate(database_url, "0001")
    with engine.begin() as connection:
        assert schema.revision_of(connection) == schema.known()[-1]
        connection.execute(text("UPDATE users SET disabled_at = NULL"))
    engine.dispose()


def test_audit_entries_can_be_neither_changed_nor_deleted(
    database_url: str, engine: Engine
) -> None:
    migrate(database_url)
    with engine.begin() as connection:
        entry = {"at": 1.0, "actor": "ada", "action": "try", "subject": "it", "facts": {}}
        connection.execute(insert(AuditEntry), entry)
    for statement in ("UPDATE audit_entries SET actor = 'eve'", "DELETE FROM audit_entries"):
        with (
            pytest.raises(DBAPIError, match="added, never changed"),
            engine.begin() as connection,
        ):
            connection.execute(text(statement))
    engine.dispose()


def test_who_may_work_with_which_schema(database_url: str, engine: Engine) -> None:
    migrate(database_url)
    newest, before = schema.known()[-1], schema.known()[-2]
    with engine.begin() as connection:
        schema.check(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        # A newer release that has only added to the schema.
        schema.check(connection)
        schema.change(connection)
        with pytest.raises(schema.SchemaError, match="9999, which this Simherd does not know"):
            schema.change(connection, "-1")
        connection.execute(text("UPDATE schema_rule SET oldest = '9998'"))
        for refused in (schema.check, schema.change):
            with pytest.raises(schema.SchemaError, match="needs one that knows 9998"):
                refused(connection)
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{newest}'"))
        connection.execute(text(f"UPDATE schema_rule SET oldest = '{newest}'"))
        with pytest.raises(schema.SchemaError, match="there is no revision 'nought'"):
            schema.change(connection, "nought")
    migrate(database_url, before)
    with engine.begin() as connection, pytest.raises(schema.SchemaError, match="simherd-scheduler"):
        schema.check(connection)
    migrate(database_url)
    engine.dispose()


def test_only_groups_of_operators_stay_shared_and_their_first_one_is_the_default(
    database_url: str, engine: Engine
) -> None:
    migrate(database_url)
    shared: dict[str, bool] = {}
    with Store(engine).write() as session:
        for name, is_operator in (("user", False), ("operator", True)):
            group = make_group(session, name="local", shared=True)
            session.get_one(User, group.user_id).is_operator = is_operator
            shared[group.id] = is_operator
            group = make_group(session, user_id=group.user_id, name=name, shared=True)
            shared[group.id] = is_operator
    migrate(database_url, "0010")
    migrate(database_url)
    with engine.begin() as connection:
        rows = connection.execute(
            select(GroupRow.id, GroupRow.name, GroupRow.shared, GroupRow.is_default)
        ).all()
    assert {row.id: row.shared for row in rows if row.id in shared} == shared
    assert [(r.name, shared.get(r.id)) for r in rows if r.is_default] == [("local", True)]
    engine.dispose()
