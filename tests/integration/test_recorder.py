"""Reports become SQL: in order, once, for the current attempt alone; on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from scheduler.store.models import StatusChange, TaskOperation, TaskRow
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order
from simherd.contract.lifecycle import Status
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.reports import ReportKind
from tests.support.builders import make_group, make_task
from tests.support.runtime import REPORTED_AT, machine_of, make_runtime, recording, report, waiting
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime

RUN: list[tuple[ReportKind, dict[str, Any]]] = [
    (ReportKind.STARTED, {"executer": {"vm_type": "local"}}),
    (ReportKind.COMPUTATION_STARTED, {}),
    (
        ReportKind.OPERATION_STARTED,
        {"id": 1, "name": "exec_command", "attributes": {"command": "true"}},
    ),
    (ReportKind.OPERATION_ENDED, {"id": 1, "status": "OK", "attributes": {"exit_code": 0}}),
    (ReportKind.COMPUTATION_ENDED, {}),
    (ReportKind.METRICS, {"metrics": {"output_size_bytes": 7, "nonsense": 1}}),
    (ReportKind.FINISHED, {"cause": Cause.COMPLETED.value, "exit_code": 0}),
]
STATUSES = ["started", "computation-started", "computation-ended", "success"]


@pytest.fixture
def rt(database_url: str, store: Store, redis_url: str, tmp_path: Path) -> Runtime:
    return make_runtime(database_url, redis_url, tmp_path)[0]


@pytest.fixture
def task(rt: Runtime) -> TaskRow:
    with rt.store.write() as session:
        return make_task(session, make_group(session))


def report_run(
    rt: Runtime, task: TaskRow, first: int = 1, last: int = len(RUN), attempt: int = 1
) -> None:
    for number in range(first, last + 1):
        kind, body = RUN[number - 1]
        report(rt, task.group_id, task.id, attempt, number, kind, **body)


def now(rt: Runtime, task: TaskRow) -> TaskRow:
    with rt.store.read() as session:
        return session.scalars(select(TaskRow).where(TaskRow.id == task.id)).one()


def history(rt: Runtime, task: TaskRow) -> list[str]:
    with rt.store.read() as session:
        rows = session.scalars(
            select(StatusChange).where(StatusChange.task_id == task.id).order_by(StatusChange.id)
        )
        return [r.status for r in rows]


def recorded(rt: Runtime, task: TaskRow, attempt: int = 1) -> int:
    key = GroupKeys(task.group_id).recorded
    return int(rt.queue.servers.main.hget(key, f"{task.id}:{attempt}") or 0)


def orders(rt: Runtime, task: TaskRow) -> list[Message]:
    entries: Any = rt.queue.servers.main.xrange(
        GroupKeys(task.group_id).inbox(machine_of(task.group_id))
    )
    return [Message.decode(fields["m"]) for _, fields in entries]


def test_a_run_is_recorded_and_acknowledged(rt: Runtime, task: TaskRow) -> None:
    with recording(rt):
        report_run(rt, task)
        until(lambda: recorded(rt, task) == len(RUN))
    found = now(rt, task)
    assert history(rt, task)[1:] == STATUSES
    assert found.end_time == REPORTED_AT + len(RUN)
    assert found.metrics["computation_seconds"] == 3.0
    assert found.metrics["output_size_bytes"] == 7
    assert "nonsense" not in found.metrics
    assert found.executer == {"vm_type": "local", "host_type": "LOCAL"}
    with rt.store.read() as session:
        (operation,) = session.scalars(
            select(TaskOperation).where(TaskOperation.task_id == task.id)
        )
    assert operation.attributes == {"command": "true", "exit_code": 0}
    assert (operation.started_at, operation.ended_at) == (REPORTED_AT + 3, REPORTED_AT + 4)


def test_reports_in_several_batches_are_the_same(rt: Runtime, task: TaskRow) -> None:
    with recording(rt):
        for number in range(1, len(RUN) + 1):
            report_run(rt, task, number, number)
            until(lambda number=number: recorded(rt, task) == number)  # type: ignore[misc]
    assert history(rt, task)[1:] == STATUSES
    assert now(rt, task).metrics["computation_seconds"] == 3.0


@pytest.mark.fault("B19")
def test_a_report_sent_twice_is_recorded_once(rt: Runtime, task: TaskRow) -> None:
    with recording(rt):
        report_run(rt, task, 1, 4)
        report_run(rt, task, 2, len(RUN))
        until(lambda: recorded(rt, task) == len(RUN))
    assert history(rt, task)[1:] == STATUSES


def test_reports_after_a_gap_wait_for_the_missing_ones(rt: Runtime, task: TaskRow) -> None:
    with recording(rt):
        report_run(rt, task, 1, 1)
        report_run(rt, task, 3, 4)
        until(lambda: recorded(rt, task) == 1)
        report_run(rt, task, 2, len(RUN))
        until(lambda: recorded(rt, task) == len(RUN))
    assert history(rt, task)[1:] == STATUSES


@pytest.mark.fault("B18")
@pytest.mark.parametrize("attempt", [1, 3])
def test_another_attempts_holder_is_fenced(rt: Runtime, attempt: int) -> None:
    with rt.store.write() as session:
        task = make_task(session, make_group(session), attempt=2, status=Status.STARTED.value)
    with recording(rt):
        report_run(rt, task, attempt=attempt)
        until(lambda: orders(rt, task))
    assert {(m.order, m.attempt, m.cause) for m in orders(rt, task)} == {
        (Order.STOP, f"{task.id}:{attempt}", Cause.LEASE_LOST)
    }
    assert now(rt, task).status == Status.STARTED
    assert history(rt, task) == ["started"]


def test_a_kill_that_crosses_the_end_wins(rt: Runtime) -> None:
    with rt.store.write() as session:
        task = make_task(session, make_group(session), status=Status.PENDING_KILL.value)
    with recording(rt):
        report_run(rt, task)
        until(lambda: recorded(rt, task) == len(RUN))
    found = now(rt, task)
    assert (found.status, found.cause) == (Status.KILLED, Cause.KILLED_BY_USER)
    assert found.metrics["computation_seconds"] == 3.0
    assert orders(rt, task)[0].cause == Cause.KILLED_BY_USER


def test_an_agent_that_stops_hands_the_task_back(rt: Runtime) -> None:
    with rt.store.write() as session:
        task = make_task(session, make_group(session), resubmit=True)
    with recording(rt):
        report_run(rt, task, 1, 2)
        body = {"cause": Cause.AGENT_STOPPED.value}
        report(rt, task.group_id, task.id, 1, 3, ReportKind.FINISHED, **body)
        until(lambda: waiting(rt, task.group_id))
    assert waiting(rt, task.group_id) == [f"{task.id}:2"]
    found = now(rt, task)
    assert (found.status, found.attempt, found.start_time) == (Status.SUBMITTED, 2, None)


def test_an_unreadable_report_does_not_stop_the_others(rt: Runtime, task: TaskRow) -> None:
    stream = GroupKeys(task.group_id).events
    with recording(rt):
        for text in ("", "{", '{"protocol": 99}', "[]", '{"protocol": 1, "kind": "no"}'):
            rt.queue.servers.main.xadd(stream, {"e": text})
        # Well-formed, of the current attempt, and still nothing that can be applied.
        report(rt, task.group_id, task.id, 1, 1, ReportKind.OPERATION_STARTED, id="x", name=7)
        report(rt, task.group_id, task.id, 1, 1, ReportKind.FINISHED, cause="no such cause")
        report_run(rt, task)
        until(lambda: recorded(rt, task) == len(RUN))
    assert now(rt, task).status == Status.SUCCESS
