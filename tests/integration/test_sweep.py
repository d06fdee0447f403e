"""What the sweep makes of silent machines and of a Redis that says something else than SQL."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from executor.link.lease import Claimer, new_token
from scheduler.domain.ending import MAX_LOSSES
from scheduler.domain.limits import MAIN_SERVER
from scheduler.domain.losses import MASS_LOSS_MINIMUM, NOT_A_SWEEP
from scheduler.providers.base import MachineState
from scheduler.queue.group_queue import Arrival
from scheduler.services.control.expire_deadlines import DEADLINE_BACKSTOP_S, expire_deadlines
from scheduler.services.control.lost import expire_leases
from scheduler.services.control.reconcile_queue import SPEC_REFRESH_S, reconcile_queue
from scheduler.services.control.sweep import sweep
from scheduler.services.tasks.enqueue import enqueue_task
from scheduler.store.machine_state import MACHINE_UP
from scheduler.store.models import GroupRow, MachineRow, TaskRow
from simherd.contract import limits
from simherd.contract.attempt_spec import AttemptSpec, attempt_key
from simherd.contract.lifecycle import Status
from simherd.contract.queue.keys import GroupKeys
from tests.support.builders import make_group, make_task
from tests.support.queue import held_in
from tests.support.runtime import add_machine, make_runtime, waiting

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime
    from tests.support.runtime import Machines


class Fleet:
    """A group with machines that hold one attempt each."""

    def __init__(self, rt: Runtime, machines: Machines, redis_url: str) -> None:
        self.rt, self.machines, self._url = rt, machines, redis_url
        with rt.store.write() as session:
            self.group: GroupRow = make_group(session)

    def hold(self, count: int, state: MachineState, *, resubmit: bool = False) -> list[TaskRow]:
        """Tasks that are claimed by machines of which the provider says `state`."""
        tasks = []
        for _ in range(count):
            with self.rt.store.write() as session:
                task = make_task(session, self.group, resubmit=resubmit)
                machine = f"m-{task.id[:6]}"
                session.add(
                    MachineRow(
                        id=machine,
                        group_id=self.group.id,
                        name=machine,
                        status=MACHINE_UP,
                        handle={},
                        created_at=time.time(),
                    )
                )
            self.machines.states[machine] = state
            enqueue_task(self.rt, task.id)
            self.claim_as(machine)
            tasks.append(task)
        self.make_overdue()
        return tasks

    def claim_as(self, machine: str) -> None:
        """Let a machine claim the first attempt of the queue."""
        add_machine(self.rt, self.group.id, machine)
        claimer = Claimer(self._url, self.group.id, machine)
        assert claimer.claim(new_token()) is not None
        claimer.close()

    def make_overdue(self) -> None:
        """Let every lease have run out."""
        leases = GroupKeys(self.group.id).leases
        held = held_in(self.rt.queue, self.group.id)
        just_now = 1000 * time.time() - 1
        self.rt.queue.servers.main.zadd(leases, dict.fromkeys(held, just_now))

    def reclaim(self, after_s: float = 0, *, in_grace: bool = False) -> None:
        grace = NOT_A_SWEEP if in_grace else None
        expire_leases(self.rt, self.group, time.time() + after_s, grace)

    def status(self, task: TaskRow) -> tuple[str, int]:
        with self.rt.store.read() as session:
            found = session.scalars(select(TaskRow).where(TaskRow.id == task.id)).one()
        return found.status, found.attempt


@pytest.fixture
def fleet(database_url: str, store: Store, redis_url: str, tmp_path: Path) -> Fleet:
    rt, machines = make_runtime(database_url, redis_url, tmp_path)
    return Fleet(rt, machines, redis_url)


def test_a_machine_that_is_gone_costs_the_attempt_at_once(fleet: Fleet) -> None:
    kept, lost = (
        fleet.hold(1, MachineState.GONE, resubmit=True)[0],
        fleet.hold(1, MachineState.GONE)[0],
    )
    fleet.reclaim(in_grace=True)
    assert fleet.status(kept) == (Status.SUBMITTED, 2)
    assert waiting(fleet.rt, fleet.group.id) == [f"{kept.id}:2"]
    assert fleet.status(lost) == (Status.EXECUTER_TERMINATED, 1)
    assert held_in(fleet.rt.queue, fleet.group.id) == []


def test_a_task_that_loses_machine_after_machine_is_held(fleet: Fleet) -> None:
    (task,) = fleet.hold(1, MachineState.GONE, resubmit=True)
    for attempt in range(2, MAX_LOSSES + 1):
        fleet.reclaim()
        assert fleet.status(task) == (Status.SUBMITTED, attempt)
        fleet.claim_as(f"machine-{attempt}-{task.id}")
        fleet.make_overdue()
    fleet.reclaim()
    assert fleet.status(task) == (Status.EXECUTER_TERMINATED, MAX_LOSSES)
    with fleet.rt.store.read() as session:
        found = session.scalars(select(TaskRow).where(TaskRow.id == task.id)).one()
    assert [x["attempt"] for x in found.losses] == [1, 2, 3]
    assert f"lost its machine {MAX_LOSSES} times" in (found.error_detail or "")
    assert f"attempt 3 on machine-3-{task.id}" in (found.error_detail or "")
    assert waiting(fleet.rt, fleet.group.id) == []


def test_a_task_that_this_release_refuses_holds_up_no_other(fleet: Fleet) -> None:
    """One that an earlier release has queued, which took more."""
    with fleet.rt.store.write() as session:
        old = make_task(session, fleet.group, extra_params={"commands": "not a list"})
        new = make_task(session, fleet.group)
    reconcile_queue(fleet.rt, fleet.group)
    assert waiting(fleet.rt, fleet.group.id) == [f"{new.id}:1"]
    assert fleet.status(old)[0] == Status.EXECUTER_FAILED


def test_a_lost_task_waits_ahead_of_younger_ones(fleet: Fleet) -> None:
    (lost,) = fleet.hold(1, MachineState.GONE, resubmit=True)
    with fleet.rt.store.write() as session:
        younger = make_task(session, fleet.group)
    enqueue_task(fleet.rt, younger.id)
    fleet.reclaim()
    assert waiting(fleet.rt, fleet.group.id) == [f"{lost.id}:2", f"{younger.id}:1"]


@pytest.mark.parametrize("state", [MachineState.UNKNOWN, MachineState.RUNNING])
def test_a_silent_machine_has_its_reconnect_window(fleet: Fleet, state: MachineState) -> None:
    (task,) = fleet.hold(1, state)
    fleet.reclaim(limits.RECONNECT_WINDOW_S - 5)
    assert fleet.status(task) == (Status.SUBMITTED, 1)
    fleet.reclaim(limits.RECONNECT_WINDOW_S + 5, in_grace=True)
    assert fleet.status(task) == (Status.SUBMITTED, 1)
    fleet.reclaim(limits.RECONNECT_WINDOW_S + 5)
    assert fleet.status(task) == (Status.EXECUTER_TERMINATED, 1)


def test_an_attempt_with_a_current_lease_is_not_suspected(fleet: Fleet) -> None:
    (task,) = fleet.hold(1, MachineState.GONE)
    lease_end = 1000 * (time.time() + limits.LEASE_S)
    leases = GroupKeys(fleet.group.id).leases
    fleet.rt.queue.servers.main.zadd(leases, {f"{task.id}:1": lease_end})
    fleet.reclaim()
    assert fleet.status(task) == (Status.SUBMITTED, 1)


def test_when_many_go_silent_at_once_it_is_probably_us(fleet: Fleet) -> None:
    tasks = fleet.hold(MASS_LOSS_MINIMUM, MachineState.UNKNOWN)
    fleet.reclaim(limits.RECONNECT_WINDOW_S + 5)
    assert {fleet.status(t)[0] for t in tasks} == {Status.SUBMITTED}
    # Unless the provider says that they are gone indeed.
    for machine in fleet.machines.states:
        fleet.machines.states[machine] = MachineState.GONE
    fleet.reclaim()
    assert {fleet.status(t)[0] for t in tasks} == {Status.EXECUTER_TERMINATED}


def test_a_task_far_past_its_deadline_is_ended_without_its_executor(fleet: Fleet) -> None:
    now = time.time()
    late, later, open_ended = fleet.hold(3, MachineState.RUNNING)
    with fleet.rt.store.write() as session:
        for task, at in ((late, now - 1), (later, now - DEADLINE_BACKSTOP_S - 1)):
            found = session.scalars(select(TaskRow).where(TaskRow.id == task.id)).one()
            found.status, found.deadline_at = Status.COMPUTATION_STARTED.value, at
    expire_deadlines(fleet.rt, MAIN_SERVER, now)
    assert fleet.status(late)[0] == Status.COMPUTATION_STARTED
    assert fleet.status(later)[0] == Status.TTL_EXCEEDED
    assert fleet.status(open_ended)[0] == Status.SUBMITTED
    assert f"{later.id}:1" not in held_in(fleet.rt.queue, fleet.group.id)


def test_the_queue_is_filled_again_from_sql(fleet: Fleet) -> None:
    with fleet.rt.store.write() as session:
        tasks = [make_task(session, fleet.group) for _ in range(3)]
        make_task(session, fleet.group, status=Status.SUCCESS.value, end_time=1.0)
    reconcile_queue(fleet.rt, fleet.group)
    reconcile_queue(fleet.rt, fleet.group)
    assert waiting(fleet.rt, fleet.group.id) == [f"{t.id}:1" for t in tasks]


def test_a_task_that_waits_for_long_gets_new_urls(fleet: Fleet) -> None:
    with fleet.rt.store.write() as session:
        task = make_task(session, fleet.group)
    enqueue_task(fleet.rt, task.id)
    specs, key = GroupKeys(fleet.group.id).specs, attempt_key(task.id, 1)
    fleet.rt.queue.servers.main.hset(specs, key, "with URLs that have expired")
    long_ago = time.time() - SPEC_REFRESH_S - 60
    with fleet.rt.store.write() as session:
        row = session.get_one(TaskRow, task.seq)
        row.queued_at = row.handed_over_at = long_ago
    reconcile_queue(fleet.rt, fleet.group)
    renewed: Any = fleet.rt.queue.servers.main.hget(specs, key)
    assert AttemptSpec.decode(renewed).task_id == task.id
    with fleet.rt.store.read() as session:
        row = session.get_one(TaskRow, task.seq)
    assert row.queued_at == long_ago
    assert (row.handed_over_at or 0) > long_ago


def test_queue_entries_unknown_to_sql_are_removed(fleet: Fleet) -> None:
    queue = fleet.rt.queue
    (task,) = fleet.hold(1, MachineState.RUNNING)
    queue.enqueue(fleet.group.id, [Arrival("stranger:1", 1, "{}")])
    with fleet.rt.store.write() as session:
        found = session.scalars(select(TaskRow).where(TaskRow.id == task.id)).one()
        found.status, found.end_time = Status.SUCCESS.value, time.time() - 2 * limits.LEASE_S
    reconcile_queue(fleet.rt, fleet.group)
    assert waiting(fleet.rt, fleet.group.id) == held_in(queue, fleet.group.id) == []


def test_a_pending_kill_whose_holder_is_gone_is_settled(fleet: Fleet) -> None:
    with fleet.rt.store.write() as session:
        task = make_task(session, fleet.group, status=Status.PENDING_KILL.value)
    reconcile_queue(fleet.rt, fleet.group)
    assert fleet.status(task) == (Status.KILLED, 1)


def test_a_group_that_cannot_be_swept_holds_up_no_other(fleet: Fleet) -> None:
    rt = fleet.rt
    with rt.store.write() as session:
        # Sorted first or last: the others come before and after it.
        make_group(session, provider="no-such-provider")
        other = make_group(session)
    sweep(rt, time.time())
    with rt.store.read() as session:
        launched = session.scalars(select(MachineRow.group_id)).all()
    assert {fleet.group.id, other.id} <= set(launched)
