"""What is kept of each attempt, what it costs, and what a limit of the cost does; with real SQL."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from scheduler.domain.limits import MAIN_SERVER
from scheduler.services.attempts.rows import close_attempt, open_attempt
from scheduler.services.attempts.spec import build_spec
from scheduler.services.billing.costs import costs_of_projects, costs_of_tasks
from scheduler.services.control.expire_deadlines import DEADLINE_BACKSTOP_S, expire_deadlines
from scheduler.services.groups.terminate import end_tasks
from scheduler.services.tasks.enqueue import enqueue_task
from scheduler.services.tasks.kill import kill_task
from scheduler.store.models import AttemptRow, GroupRow, MachineRow, TaskRow
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order
from simherd.contract.lifecycle import Status
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.reports import ReportKind
from tests.support.builders import make_group, make_task
from tests.support.runtime import REPORTED_AT, machine_of, make_runtime, recording, report
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime

#: Many of them, each on both databases.
pytestmark = pytest.mark.slow

#: US$ per hour of the machine that reports.
PRICE = 3.6


class Bench:
    """A group with one machine of a price of its own."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        with rt.store.write() as session:
            self.group: GroupRow = make_group(session)

    def machine(self, name: str = "", price_hour: float = PRICE) -> None:
        with self.rt.store.write() as session:
            session.merge(
                MachineRow(
                    id=name or machine_of(self.group.id),
                    group_id=self.group.id,
                    name=f"name of {name}",
                    status="up",
                    handle={},
                    created_at=0.0,
                    price_hour=price_hour,
                )
            )

    def task(self, **fields: Any) -> TaskRow:
        with self.rt.store.write() as session:
            return make_task(session, self.group, **fields)

    def report(
        self, task: TaskRow, *reports: tuple[ReportKind, dict[str, Any]], attempt: int = 1
    ) -> None:
        """Report, and wait until it is recorded. See `report` for their times."""
        field = f"{task.id}:{attempt}"
        key = GroupKeys(self.group.id).recorded
        with recording(self.rt):
            for number, (kind, body) in enumerate(reports, 1):
                report(self.rt, self.group.id, task.id, attempt, number, kind, **body)
            client = self.rt.queue.servers.main
            until(lambda: int(client.hget(key, field) or 0) == len(reports), what="the reports")

    def attempts(self, task: TaskRow) -> list[AttemptRow]:
        with self.rt.store.read() as session:
            return list(
                session.scalars(
                    select(AttemptRow)
                    .where(AttemptRow.task_id == task.id)
                    .order_by(AttemptRow.attempt)
                )
            )

    def now(self, task: TaskRow) -> TaskRow:
        with self.rt.store.read() as session:
            return session.scalars(select(TaskRow).where(TaskRow.id == task.id)).one()

    def orders(self) -> list[Message]:
        entries: Any = self.rt.queue.servers.main.xrange(
            GroupKeys(self.group.id).inbox(machine_of(self.group.id))
        )
        return [Message.decode(fields["m"]) for _, fields in entries]

    def hold(self, task: TaskRow, at: float, **fields: Any) -> None:
        """Have the task's attempt taken up at a moment, and compute."""
        with self.rt.store.write() as session:
            open_attempt(session, task.id, task.attempt, machine_of(self.group.id), at)
            row = session.scalars(select(TaskRow).where(TaskRow.id == task.id)).one()
            row.status, row.machine_id = Status.COMPUTATION_STARTED.value, machine_of(self.group.id)


@pytest.fixture
def bench(database_url: str, store: Store, redis_url: str, tmp_path: Path) -> Bench:
    made = Bench(make_runtime(database_url, redis_url, tmp_path)[0])
    made.machine()
    return made


def started(slots: object = 1) -> tuple[ReportKind, dict[str, Any]]:
    return ReportKind.STARTED, {"executer": {"vm_type": "local", "slots": slots}}


UPLOAD = {"id": 1, "name": "upload_output", "attributes": {}}
STORED: list[tuple[ReportKind, dict[str, Any]]] = [
    (ReportKind.COMPUTATION_STARTED, {}),
    (ReportKind.COMPUTATION_ENDED, {}),
    (ReportKind.METRICS, {"metrics": {"output_zipped_size_bytes": 77}}),
    (ReportKind.OPERATION_STARTED, UPLOAD),
    (ReportKind.OPERATION_ENDED, {"id": 1, "status": "OK", "attributes": {}}),
]


def finished(cause: Cause, **body: Any) -> tuple[ReportKind, dict[str, Any]]:
    return ReportKind.FINISHED, {"cause": cause.value, **body}


def test_an_attempt_is_kept_with_its_end_and_its_share_of_the_machine(bench: Bench) -> None:
    task = bench.task()
    bench.report(task, started(slots=4), *STORED, finished(Cause.COMPLETED, exit_code=0))
    (row,) = bench.attempts(task)
    assert (row.machine_id, row.started_at, row.ended_at) == (
        machine_of(bench.group.id),
        REPORTED_AT + 1,
        REPORTED_AT + 7,
    )
    assert (row.cause, row.saved) == (Cause.COMPLETED, {"output_bytes": 77})
    assert row.price_hour == pytest.approx(PRICE / 4)
    with bench.rt.store.read() as session:
        assert costs_of_tasks(session, [task.id], 5e9) == {
            task.id: pytest.approx(6 / 3600 * PRICE / 4)
        }


@pytest.mark.parametrize("slots", [None, 0, -1, "many", True])
def test_slots_that_cannot_be_divide_nothing(bench: Bench, slots: object) -> None:
    task = bench.task()
    bench.report(task, started(slots))
    assert bench.attempts(task)[0].price_hour == pytest.approx(PRICE)


def test_a_machine_without_a_price_costs_what_its_group_says(bench: Bench) -> None:
    bench.machine(price_hour=0.0)
    task = bench.task()
    bench.report(task, started())
    assert bench.attempts(task)[0].price_hour == pytest.approx(bench.group.price_hour)


GONE: dict[str, Any] = {"detail": "Gone at ten.", "saved": {"generation": 4}}


def test_every_attempt_has_a_separate_row(bench: Bench) -> None:
    task = bench.task(resubmit=True)
    bench.report(task, started(), *STORED, finished(Cause.SPOT_RECLAIMED, **GONE))
    bench.report(task, started(), finished(Cause.INPUT_INVALID), attempt=2)
    first, second = bench.attempts(task)
    assert (first.cause, first.detail) == (Cause.SPOT_RECLAIMED, "Gone at ten.")
    assert first.saved == {"output_bytes": 77, "generation": 4}
    # Of what the first one stored, nothing is taken for the second one's.
    assert (second.cause, second.saved) == (Cause.INPUT_INVALID, {})


def test_an_attempt_ends_with_its_group(bench: Bench) -> None:
    task = bench.task()
    bench.hold(task, 1000.0)
    end_tasks(bench.rt, bench.group, Cause.GROUP_TERMINATED)
    (row,) = bench.attempts(task)
    assert row.cause == Cause.GROUP_TERMINATED
    assert row.ended_at == pytest.approx(time.time(), abs=60)


def test_an_attempt_without_a_lease_ends_with_the_kill(bench: Bench) -> None:
    task = bench.task()
    bench.hold(task, 1000.0)
    kill_task(bench.rt, task.user_id, task.id)
    assert bench.now(task).status == Status.KILLED
    assert bench.attempts(task)[0].cause == Cause.KILLED_BY_USER


def test_a_project_costs_what_its_tasks_do(bench: Bench) -> None:
    for begun in (1000.0, 2000.0):
        task = bench.task()
        with bench.rt.store.write() as session:
            open_attempt(session, task.id, 1, machine_of(task.group_id), begun)
            close_attempt(session, task.id, 1, begun + 100, Cause.COMPLETED)
    whole, user = 200 / 3600 * PRICE, bench.group.user_id
    with bench.rt.store.read() as session:
        assert costs_of_projects(session, user, 5e9) == {"default": pytest.approx(whole)}
        # Of the second attempt alone, and of half of it.
        found = costs_of_projects(session, user, 5e9, (2050.0, 9000.0))
        assert found == {"default": pytest.approx(whole / 4)}
        assert costs_of_projects(session, user, 5e9, name="none") == {}


def test_an_executor_gets_the_seconds_that_the_money_lasts(bench: Bench) -> None:
    task = bench.task(max_cost=1.0)
    spec = build_spec(bench.rt, bench.now(task))
    assert spec.seconds_for_money == pytest.approx(1.0 / bench.group.price_hour * 3600)
    assert build_spec(bench.rt, bench.task()).seconds_for_money is None


def test_an_executor_that_knows_another_price_is_corrected(bench: Bench) -> None:
    task = bench.task(max_cost=1.8)
    bench.report(task, started(slots=2), (ReportKind.COMPUTATION_STARTED, {"money_until": 77.0}))
    (order,) = until(bench.orders, what="the correction")
    assert (order.order, order.cause) == (Order.DEADLINE, Cause.COST_LIMIT)
    assert order.deadline_at == pytest.approx(REPORTED_AT + 1 + 3600)
    deadline_at = order.deadline_at
    other = bench.task(max_cost=1.8)
    bench.report(
        other, started(slots=2), (ReportKind.COMPUTATION_STARTED, {"money_until": deadline_at})
    )
    assert len(bench.orders()) == 1


def test_the_cost_of_earlier_attempts_reduces_the_budget(bench: Bench) -> None:
    task = bench.task(max_cost=1.0, attempt=2)
    with bench.rt.store.write() as session:
        open_attempt(session, task.id, 1, machine_of(task.group_id), 1000.0)
        close_attempt(session, task.id, 1, 1900.0, Cause.MACHINE_LOST)  # US$ 0.9
    spec = build_spec(bench.rt, bench.now(task))
    assert spec.seconds_for_money == pytest.approx(0.1 / bench.group.price_hour * 3600)


def test_a_task_whose_money_is_spent_is_not_queued_again(bench: Bench) -> None:
    task = bench.task(max_cost=0.0005, resubmit=True)
    bench.report(task, started(), finished(Cause.SPOT_RECLAIMED))
    found = bench.now(task)
    assert (found.status, found.cause) == (Status.TTL_EXCEEDED, Cause.COST_LIMIT)
    assert found.error_detail == (
        "The task's machines have cost US$ 0.001; they may cost US$ 0.0005 (max_cost)."
    )
    assert bench.attempts(task)[0].cause == Cause.SPOT_RECLAIMED


def test_a_task_that_was_stopped_for_its_money_says_what_it_cost(bench: Bench) -> None:
    task = bench.task(max_cost=0.001)
    bench.report(task, started(), *STORED[:2], finished(Cause.COST_LIMIT))
    found = bench.now(task)
    assert (found.status, found.cause) == (Status.TTL_EXCEEDED, Cause.COST_LIMIT)
    assert "US$ 0.003; they may cost US$ 0.001" in (found.error_detail or "")


@pytest.mark.parametrize("status", [Status.STARTED, Status.COMPUTATION_STARTED])
def test_money_that_is_long_spent_ends_a_task_without_its_executor(
    bench: Bench, status: Status
) -> None:
    now = 10_000_000.0
    spend_s = 100.0
    task, rich = bench.task(max_cost=spend_s / 3600 * PRICE), bench.task()
    for each in (task, rich):
        enqueue_task(bench.rt, each.id)
        bench.hold(each, now - spend_s - DEADLINE_BACKSTOP_S)
    with bench.rt.store.write() as session:
        for row in session.scalars(select(TaskRow).where(TaskRow.id.in_([task.id, rich.id]))):
            row.status = status.value
    expire_deadlines(bench.rt, MAIN_SERVER, now - 1)
    assert bench.now(task).status == status
    expire_deadlines(bench.rt, MAIN_SERVER, now + 1)
    found = bench.now(task)
    assert (found.status, found.cause) == (Status.TTL_EXCEEDED, Cause.COST_LIMIT)
    assert bench.now(rich).status == status
