"""Backups of either database into either, and what a restore refuses and puts right."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
import zipfile
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select, text

from scheduler.domain.ending import AttemptEnd
from scheduler.services.accounts.users import create_key, user_of_key
from scheduler.services.attempts.end import end_attempt
from scheduler.services.attempts.record_report import Recording, Verdict
from scheduler.services.attempts.rows import add_saved, open_attempt
from scheduler.services.backup.backup import restore_backup, write_backup
from scheduler.services.control.sweep import sweep
from scheduler.services.errors import Conflict
from scheduler.store import schema
from scheduler.store.dump import dump
from scheduler.store.engine import Store, migrate, open_engine
from scheduler.store.models import Base, MachineRow, StatusChange, TaskRow
from simherd.cli import admin
from simherd.contract.backups import MANIFEST, BadBackup, check
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import Status
from simherd.contract.reports import Report, ReportKind
from simherd.errors import InvalidInput
from tests.support import servers
from tests.support.builders import make_group, make_task
from tests.support.runtime import make_runtime, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Before:
    """What is in the database when it is backed up: a task that waits, one that runs, one that has
    ended, one that waits for its input, and a key."""

    def __init__(self, store: Store) -> None:
        with store.write() as session:
            group = make_group(session, policy={"network": True})
            self.key = create_key(session, group.user_id, "mine")
            self.group, self.user = group.id, group.user_id
            self.waits = make_task(session, group, attempt=3, task_metadata={"a": "ü\n"}).id
            self.runs = make_task(
                session, group, status=Status.STARTED.value, machine_id="m1", last_event=4
            ).id
            self.ended = make_task(session, group, status=Status.SUCCESS.value, end_time=2.5).id
            self.new = make_task(session, group, status=Status.PENDING_INPUT.value, attempt=0).id
            open_attempt(session, self.runs, 1, "m1", 1.0)
            open_attempt(session, self.ended, 1, "m1", 1.0)
            session.flush()
            add_saved(session, self.ended, 1, output_bytes=9)


def task(store: Store, task_id: str) -> TaskRow:
    with store.read() as session:
        return session.scalars(select(TaskRow).where(TaskRow.id == task_id)).one()


@pytest.fixture(scope="module")
def before(store: Store) -> Before:
    return Before(store)


@pytest.fixture(scope="module")
def backup(store: Store, before: Before, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("backup") / "one.zip"
    write_backup(store, "test", file)
    return file


@pytest.fixture
def target(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty database of the other kind, without tables."""
    if not database_url.startswith("sqlite"):
        yield Store(open_engine(f"sqlite:///{tmp_path / 'target.db'}"))
        return
    with servers.new_database(request.getfixturevalue("postgres_server")) as url:
        made = Store(open_engine(url))
        yield made
        made.engine.dispose()


def test_all_that_was_there_is_there_again_in_a_database_of_the_other_kind(
    store: Store, before: Before, backup: Path, target: Store
) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    restore_backup(target, "test", backup, replace=False)
    for table in Base.metadata.sorted_tables:
        if table.name in {"audit_entries", "status_changes"}:
            continue
        with store.read() as one, target.read() as other:
            count = select(func.count()).select_from(table)
            assert one.scalar(count) == other.scalar(count), table.name
    with target.read() as session:
        user = user_of_key(session, before.key)
        assert user is not None
        assert user.id == before.user
    for task_id in (before.ended, before.runs):
        row, again = task(store, task_id), task(target, task_id)
        columns = {c.key for c in TaskRow.__table__.columns} - {"attempt_floor", "attempts_before"}
        assert {c: getattr(row, c) for c in columns} == {c: getattr(again, c) for c in columns}
    waits = task(target, before.waits)
    assert waits.task_metadata == {"a": "ü\n"}
    # What is made from then on is numbered on.
    with target.write() as session:
        made = make_task(session, make_group(session))
        assert made.seq > max(task(store, t).seq for t in (before.waits, before.new))


def test_numbers_of_attempts_are_never_used_again(
    before: Before, backup: Path, target: Store
) -> None:
    restore_backup(target, "test", backup, replace=False)
    now = time.time()
    waits, runs, new = (task(target, t) for t in (before.waits, before.runs, before.new))
    # Between the backup and now there may have been more attempts than one can know of.
    assert waits.attempt == waits.attempt_floor == runs.attempt_floor > 10_000_000
    assert (runs.attempt, runs.last_event, new.attempt) == (1, 4, 0)
    with target.read() as session:
        last = select(StatusChange).where(StatusChange.task_id == before.waits)
        shown = session.scalars(last.order_by(StatusChange.id.desc())).first()
        assert shown is not None
        assert f"waits as attempt {waits.attempt}" in shown.description
        assert shown.ended_at is None
    with target.write() as session:
        machines = {"m1", "m2"}
        # Whoever still has the attempt from before the restore is refused.
        old = Report(ReportKind.STARTED, before.waits, 3, 1, now, "m2", {})
        assert Recording(session, before.group, machines, {}).record(old).verdict is Verdict.FENCED
        # Who ran one all the time goes on with it, and is asked for what was forgotten.
        later = Report(ReportKind.COMPUTATION_STARTED, before.runs, 1, 9, now, "m1", {})
        assert Recording(session, before.group, machines, {}).record(later).verdict is Verdict.GAP
    with target.write() as session:
        ended = end_attempt(
            session, before.runs, 1, AttemptEnd(Cause.MACHINE_LOST, now), resubmit=True
        )
        assert ended == Status.SUBMITTED
    assert task(target, before.runs).attempt == waits.attempt
    # The same backup once more: those numbers have been used now.
    with target.engine.begin() as connection:
        connection.execute(text("UPDATE tasks SET attempt = attempt + 5 WHERE attempt > 1000"))
    later_file = backup.with_name(f"again-{target.engine.dialect.name}.zip")
    write_backup(target, "test", later_file)
    target.engine.dispose()
    restore_backup(target, "test", later_file, replace=True)
    assert task(target, before.waits).attempt > waits.attempt + 5
    assert task(target, before.waits).attempts_before == 7


def test_a_task_that_no_machine_runs_is_queued_again(
    before: Before, backup: Path, target: Store, redis_url: str, tmp_path: Path
) -> None:
    restore_backup(target, "test", backup, replace=False)
    url = target.engine.url.render_as_string(hide_password=False)
    rt, _ = make_runtime(url, redis_url, tmp_path / "storage")
    with rt.store.write() as session:
        session.add(
            MachineRow(
                id="m1",
                group_id=before.group,
                name="m1",
                status="started",
                handle={},
                created_at=1.0,
                launched_at=1.0,
            )
        )
    sweep(rt, 0.0)
    assert not task(target, before.runs).resubmit
    assert task(target, before.runs).status == Status.SUBMITTED
    attempts = {f"{t}:{task(target, t).attempt}" for t in (before.runs, before.waits)}
    assert set(waiting(rt, before.group)) == attempts
    rt.store.engine.dispose()


def test_what_a_restore_refuses(store: Store, before: Before, backup: Path, tmp_path: Path) -> None:
    target = Store(open_engine(f"sqlite:///{tmp_path / 'target.db'}"))
    whole = backup.read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    changed = tmp_path / "changed.zip"
    newer = tmp_path / "newer.zip"
    with (
        zipfile.ZipFile(backup) as source,
        zipfile.ZipFile(changed, "w") as first,
        zipfile.ZipFile(newer, "w") as second,
    ):
        for name in source.namelist():
            data = source.read(name)
            first.writestr(name, data.replace(b'"attempt":3', b'"attempt":4'))
            told = json.loads(data) if name == MANIFEST else {}
            second.writestr(name, json.dumps({**told, "revision": "9999"}) if told else data)
    for file, sentence in (
        (cut, "is not a backup, or not the whole of one"),
        (changed, "the table tasks is not as it was written"),
        (newer, "with the schema 9999; this one knows them up to"),
        (tmp_path / "nothing.zip", "No such file"),
    ):
        with pytest.raises((BadBackup, OSError), match=sentence):
            restore_backup(target, "test", file, replace=True)
    restore_backup(target, "test", backup, replace=False)
    other = open_engine(str(target.engine.url))
    with other.connect(), pytest.raises(Conflict, match="Stop api, worker and recorder"):
        restore_backup(target, "test", backup, replace=True)
    other.dispose()
    with pytest.raises(Conflict, match="is not empty, and a restore destroys"):
        restore_backup(target, "test", backup, replace=False)
    with pytest.raises(Conflict, match="is there already"):
        write_backup(target, "test", backup)
    assert check(backup).tables["tasks"].rows == 4


def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    store: Store, before: Before, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    migrate(url, "0004")
    old = open_engine(url)
    with old.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO users (id, username, email, created_at, is_operator, quotas) "
                "VALUES ('u', 'ada', 'ada@localhost', 1.5, 1, '{}')"
            )
        )
    file = tmp_path / "old.zip"
    file.write_bytes(b"".join(dump(old, "0.0.9", 5.0)))
    assert check(file).revision == "0004"
    target = Store(open_engine(f"sqlite:///{tmp_path / 'new.db'}"))
    restore_backup(target, "test", file, replace=False)
    with target.engine.connect() as connection:
        schema.check(connection)
        assert connection.scalar(text("SELECT username FROM users")) == "ada"


def test_a_backup_is_of_one_moment_while_others_write(
    store: Store, before: Before, tmp_path: Path
) -> None:
    pieces = dump(store.engine, "any", 1.0)
    first = next(pieces)
    with store.write() as session:
        make_task(session, make_group(session))
    file = tmp_path / "moment.zip"
    file.write_bytes(first + b"".join(pieces))
    assert check(file).tables["tasks"].rows == 4


def test_a_restore_wants_to_know_which_database_is_meant(tmp_path: Path) -> None:
    file = tmp_path / "b.zip"
    file.write_bytes(b"no backup")
    given = ["restore", str(file), "--data-dir", str(tmp_path / "data")]
    both = CliRunner().invoke(admin.command, given, env={"SIMHERD_DATABASE_URL": "sqlite:///x.db"})
    assert isinstance(both.exception, InvalidInput)
    assert "SIMHERD_DATABASE_URL is set, too" in str(both.exception)
    asked = CliRunner().invoke(admin.command, [*given, "--replace"])
    assert asked.exit_code == 2
    assert "say it with --yes" in asked.output
    assert not (tmp_path / "data").exists()


def test_the_commands_of_the_shell(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "scheduler", *words],
            env={"SIMHERD_DATABASE_URL": f"sqlite:///{tmp_path / 'own.db'}", "USER": "ada"},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("migrate").returncode == 0
    made = run("operator", "create", "root")
    assert made.stdout.startswith("sh_")
    file = str(tmp_path / "b.zip")
    assert "schema" in run("backup", file).stdout
    done = run("restore", file, "--replace")
    assert "0 tasks go on" in done.stdout, done.stderr
    store = Store(open_engine(f"sqlite:///{tmp_path / 'own.db'}"))
    with store.read() as session:
        found = user_of_key(session, made.stdout.strip())
        assert found is not None
        assert found.is_operator
