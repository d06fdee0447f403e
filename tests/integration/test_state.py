"""What the recorder tells Prometheus of the deployment, on both databases and a real Redis."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, select, update

from executor.link.lease import Claimer, new_token
from scheduler.metrics import instruments, table
from scheduler.metrics.collectors import read_state
from scheduler.metrics.snapshot import StateCollector
from scheduler.services.control.lost import expire_leases
from scheduler.services.tasks.enqueue import push_attempts
from scheduler.services.tasks.kill import settle_kill
from scheduler.store.machine_state import (
    MACHINE_DOWN,
    MACHINE_DRAINED,
    MACHINE_UP,
    SHOWN_STATES,
    shown_state,
    shown_state_column,
)
from scheduler.store.models import GroupRow, MachineRow, TaskRow
from scheduler.store.transitions import change_status
from simherd.contract import limits
from simherd.contract.lifecycle import Status
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.reports import ReportKind
from tests.support.builders import make_group, make_task
from tests.support.queue import held_in
from tests.support.runtime import make_runtime, recording, report
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime
    from simherd.runtime.metric_table import Measure


@pytest.fixture
def rt(database_url: str, store: Store, redis_url: str, tmp_path: Path) -> Runtime:
    return make_runtime(database_url, redis_url, tmp_path)[0]


def _add_machine(rt: Runtime, group: GroupRow, name: str, **fields: Any) -> None:
    values: dict[str, Any] = {"status": MACHINE_UP, "handle": {}, "created_at": time.time()}
    values |= fields
    with rt.store.write() as session:
        session.add(MachineRow(id=f"{group.id}-{name}", group_id=group.id, name=name, **values))


def _queue(rt: Runtime, group: GroupRow, **fields: Any) -> TaskRow:
    waited = fields.pop("waited", 0.0)
    with rt.store.write() as session:
        task = make_task(session, group, **fields)
    push_attempts(rt, [task])
    with rt.store.write() as session:
        queued_at = time.time() - waited
        session.execute(update(TaskRow).where(TaskRow.id == task.id).values(queued_at=queued_at))
    return task


class Seen:
    """One reading, as to one group."""

    def __init__(self, rt: Runtime, group: GroupRow) -> None:
        self._reading, self._group = read_state(rt), group

    def __call__(self, row: Measure, *labels: str) -> float | None:
        wanted = (self._group.id, self._group.name, *labels) if "group" in row.labels else labels
        return dict(self._reading[row.name]).get(wanted)


def test_a_group_is_shown_with_its_state(rt: Runtime, redis_url: str) -> None:
    now = time.time()
    with rt.store.write() as session:
        group = make_group(session, auto_terminate_at=now + 3600, refusals=2)
    _add_machine(rt, group, "m1", last_seen_at=now, price_hour=0.5)
    _add_machine(rt, group, "m2", last_seen_at=now - 60, price_hour=0.25)
    _add_machine(rt, group, "gone", status=MACHINE_DOWN, terminated_at=now, price_hour=9.0)
    _queue(rt, group, priority=5, waited=100)
    starving = _queue(rt, group, waited=5000)
    _queue(rt, group, waited=10)
    with rt.store.write() as session:
        running = Status.COMPUTATION_STARTED.value
        make_task(session, group, status=running, deadline_at=now + 60)
    # One is claimed, and its lease has run out; the machine was heard of long ago.
    claimer = Claimer(redis_url, group.id, f"{group.id}-m1")
    assert claimer.claim(new_token()) is not None
    claimer.close()
    keys, redis = GroupKeys(group.id), rt.queue.servers.main
    redis.zadd(keys.leases, dict.fromkeys(held_in(rt.queue, group.id), 1000 * now - 1))
    beats = {f"{group.id}-m1": 1000 * (now - 40), f"{group.id}-m2": 1000 * now}
    redis.zadd(keys.machines, beats)
    report(rt, group.id, starving.id, 1, 1, ReportKind.STARTED, executer={})

    seen = Seen(rt, group)
    assert seen(table.QUEUE_LENGTH) == 2
    assert 5000 <= (seen(table.OLDEST_WAIT) or 0) < 5060
    assert (seen(table.LEASES), seen(table.LEASES_OVERDUE)) == (1, 1)
    assert seen(table.TASKS, Status.COMPUTATION_STARTED.value) == 1
    assert seen(table.TASKS, Status.STARTED.value) == 0
    assert 0 < (seen(table.DEADLINE_LEFT) or 0) <= 60
    states = {state: seen(table.MACHINES, state) for state in SHOWN_STATES}
    # The third is the one that has reported.
    one_each = {MACHINE_UP: 1, "suspect": 1, "starting": 1}
    assert states == {**dict.fromkeys(SHOWN_STATES, 0), **one_each}
    assert 40 <= (seen(table.SILENT_MACHINE) or 0) < 100
    assert seen(table.COST) == 0.75
    assert 3500 < (seen(table.GROUP_LEFT) or 0) <= 3600
    assert seen(table.REFUSALS) == 2
    assert seen(table.REPORTS_WAITING) == 1
    assert (seen(table.RECORDER_LAG) or 0) > 0
    assert seen(table.REDIS_UP, "main") == 1
    assert abs(seen(table.REDIS_CLOCK, "main") or 9) < 5

    with recording(rt):
        until(lambda: Seen(rt, group)(table.REPORTS_WAITING) == 0, what="the report recorded")
    assert Seen(rt, group)(table.RECORDER_LAG) == 0


def test_machines_are_counted_as_they_are_shown(rt: Runtime) -> None:
    with rt.store.write() as session:
        group = make_group(session)
    now, seen_at = time.time(), {"last_seen_at": time.time()}
    kinds: list[dict[str, Any]] = [
        {},
        seen_at,
        {**seen_at, "launched_at": now + 1},
        {"last_seen_at": now - limits.LEASE_S - limits.HEARTBEAT_S - 1},
        {**seen_at, "reclaim_at": now + 30},
        {**seen_at, "status": MACHINE_DRAINED},
        {"status": MACHINE_DOWN, "terminated_at": now},
        {"status": MACHINE_DOWN},
    ]
    for number, fields in enumerate(kinds):
        _add_machine(rt, group, f"m{number}", **fields)
    with rt.store.read() as session:
        counted = select(MachineRow, shown_state_column(now)).where(MachineRow.group_id == group.id)
        rows = session.execute(counted).all()
    assert len(rows) == len(kinds)
    assert [state for _, state in rows] == [shown_state(machine, now) for machine, _ in rows]


@contextmanager
def _questions(rt: Runtime) -> Iterator[list[str]]:
    """The statements that SQL is asked meanwhile."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(rt.store.engine, "before_cursor_execute", note)
    yield asked
    event.remove(rt.store.engine, "before_cursor_execute", note)


def test_tasks_raise_no_more_questions(rt: Runtime) -> None:
    with rt.store.write() as session:
        group = make_group(session)
    _queue(rt, group)
    redis = rt.queue.servers.main

    def cost() -> tuple[int, int]:
        before: Any = redis.info("stats")
        with _questions(rt) as asked:
            read_state(rt)
        after: Any = redis.info("stats")
        name = "total_commands_processed"
        return len(asked), after[name] - before[name]

    cost()
    one = cost()
    with rt.store.write() as session:
        tasks = [make_task(session, group) for _ in range(50)]
    push_attempts(rt, tasks)
    assert cost() == one


def test_a_redis_that_is_down_hides_no_more_than_it_holds(
    rt: Runtime, database_url: str, tmp_path: Path
) -> None:
    with rt.store.write() as session:
        group = make_group(session)
    _add_machine(rt, group, "m1", last_seen_at=time.time())
    dead, _ = make_runtime(database_url, "redis://127.0.0.1:1/0", tmp_path)
    seen = Seen(dead, group)
    assert seen(table.REDIS_UP, "main") == 0
    assert seen(table.MACHINES, MACHINE_UP) == 1
    assert seen(table.QUEUE_LENGTH) is None


def test_no_scrape_waits_for_a_reading_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr("scheduler.metrics.snapshot._WAIT_S", 0.01)

    def read() -> dict[str, Any]:
        goes_on.wait()
        return {table.QUEUE_LENGTH.name: [(("id", "local"), 7.0)]}

    collector = StateCollector(table.STATE, read)

    def shown() -> dict[str, list[float]]:
        return {f.name: [s.value for s in f.samples] for f in collector.collect()}

    assert shown()[table.QUEUE_LENGTH.name] == []
    assert shown()[table.STATE_AGE.name][0] >= 5
    goes_on.set()
    until(lambda: shown()[table.QUEUE_LENGTH.name] == [7], what="what was read")


def _counted(row: Measure, **labels: str) -> float:
    return instruments.REGISTRY.get_sample_value(row.name, labels) or 0


def test_a_rolled_back_change_is_not_counted(rt: Runtime) -> None:
    instruments.init()
    with rt.store.write() as session:
        group = make_group(session)
        task = make_task(session, group, status=Status.PENDING_KILL.value)
    killed = {"status": Status.KILLED.value, "cause": "killed_by_user"}
    ended = _counted(table.TASKS_ENDED, **killed)
    refused = _counted(table.REFUSED_CHANGES, status=Status.KILLED.value)
    kill: dict[str, Any] = {"attempt": 1, "at": time.time(), "cause": "killed_by_user"}

    def break_after_it() -> None:
        with rt.store.write() as session:
            assert change_status(session, task.id, Status.KILLED, **kill)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_after_it()
    assert _counted(table.TASKS_ENDED, **killed) == ended
    settle_kill(rt, group.id, task.id, 1, discard=False)
    assert _counted(table.TASKS_ENDED, **killed) == ended + 1
    with rt.store.write() as session:
        assert not change_status(session, task.id, Status.KILLED, **kill)
    assert _counted(table.REFUSED_CHANGES, status=Status.KILLED.value) == refused + 1


def test_a_lost_machine_is_counted(rt: Runtime) -> None:
    instruments.init()
    with rt.store.write() as session:
        group = make_group(session)
        make_task(session, group, status=Status.STARTED.value, machine_id=f"{group.id}-m1")
    _add_machine(rt, group, "m1", status=MACHINE_DOWN, terminated_at=time.time())
    lost = _counted(table.ATTEMPTS_LOST, cause="machine_lost")
    expired = _counted(table.LEASES_EXPIRED)
    expire_leases(rt, group, time.time(), None)
    assert _counted(table.ATTEMPTS_LOST, cause="machine_lost") == lost + 1
    assert _counted(table.LEASES_EXPIRED) == expired + 1
