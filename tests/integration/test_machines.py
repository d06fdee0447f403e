"""The machines of a group come, are replaced, and go; with a provider that a test commands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from sqlalchemy import select

from executor.link.lease import Claimer, LeaseKeeper, new_token
from scheduler.domain.group_status import GroupStatus
from scheduler.domain.losses import NOT_A_SWEEP
from scheduler.domain.machine_status import MachineStatus
from scheduler.providers.base import LaunchRefused, MachineState, NoCapacity, Uncertain
from scheduler.queue.group_queue import Arrival
from scheduler.services.control.lost import expire_leases
from scheduler.services.control.orphans import end_again, examine
from scheduler.services.control.sweep import sweep
from scheduler.services.groups.autoscale import drain_surplus
from scheduler.services.groups.terminate import request_termination, shut_down_group
from scheduler.services.machines.provision import retire, scale_group
from scheduler.services.tasks.enqueue import enqueue_task
from scheduler.store.machine_state import MACHINE_UP
from scheduler.store.models import MachineRow
from simherd.contract.cause import Cause
from simherd.contract.join import redis_user
from simherd.contract.queue.keys import GroupKeys
from tests.support.builders import make_task
from tests.support.cloud import Cloud, Fleet, open_fleet, raw
from tests.support.runtime import waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scheduler.store.engine import Store


@pytest.fixture
def fleet(store: Store, database_url: str, redis_url: str, tmp_path: Path) -> Fleet:
    return open_fleet(database_url, redis_url, tmp_path)


class Returning(Cloud):
    """Machines that come back, and something that goes on while one is launched."""

    revives = True

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Callable[[], object]] = []

    def launch(self, plan: Any) -> dict[str, Any]:
        """See `MachineProvider`."""
        if self.meanwhile:
            self.meanwhile.pop()()
        return super().launch(plan)


def test_a_machine_is_brought_back_once_though_two_sweeps_look(fleet: Fleet) -> None:
    cloud = fleet.cloud = Returning()
    fleet.rt.__dict__["providers"] = {"local": cloud}
    group = fleet.group(num_machines=1)
    (machine,) = fleet.scale(group)
    cloud.states[machine.id] = MachineState.GONE
    cloud.meanwhile.append(lambda: fleet.scale(group))
    fleet.scale(group)
    assert cloud.launched == [machine.id, machine.id]
    assert [m.handle for m in fleet.up(group)] == [machine.handle]


def test_a_group_has_started_when_a_machine_has_joined(fleet: Fleet) -> None:
    group = fleet.group()
    machines = fleet.scale(group)
    assert len(machines) == len(fleet.cloud.launched) == 2
    assert fleet.now(group).status == GroupStatus.STARTING
    fleet.join(machines[0])
    assert len(fleet.scale(group)) == 2
    assert fleet.now(group).status == GroupStatus.STARTED
    assert len(fleet.cloud.launched) == 2


def test_a_machine_that_is_gone_is_replaced_and_let_in_no_more(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (first,) = fleet.scale(group)
    secret = fleet.join(first)
    fleet.cloud.states[first.id] = MachineState.GONE
    fleet.scale(group)
    (second,) = fleet.scale(group)
    assert second.id != first.id
    with pytest.raises(redis.AuthenticationError):
        LeaseKeeper(fleet.address(first.id, secret), group.id, first.id).beat([])


def test_retiring_a_machine_again_keeps_its_end_and_its_reason(fleet: Fleet) -> None:
    """The sweep and a job may do so side by side; the costs come from `terminated_at`."""
    group = fleet.group(num_machines=1, spot=True)
    (stale,) = fleet.scale(group)
    fleet.set(stale, spot=True)
    assert retire(fleet.rt, group, stale, "It is gone.", taken=True)
    with fleet.rt.store.read() as session:
        before = session.get_one(MachineRow, stale.id)
    assert not retire(fleet.rt, group, stale, "It sent no heartbeat for 700 s.")
    with fleet.rt.store.read() as session:
        after = session.get_one(MachineRow, stale.id)
    assert before.terminated_at is not None
    assert before.reclaim_at is not None
    assert (after.terminated_at, after.drain_reason, after.reclaim_at) == (
        before.terminated_at,
        "It is gone.",
        before.reclaim_at,
    )


def test_a_late_retirement_does_not_forget_a_reclaim_notice(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (stale,) = fleet.scale(group)
    fleet.set(stale, reclaim_at=77.0)
    retire(fleet.rt, group, stale, "It is silent.")
    with fleet.rt.store.read() as session:
        machine = session.get_one(MachineRow, stale.id)
    assert (machine.status, machine.reclaim_at) == (MachineStatus.DOWN, 77.0)


def test_a_machine_that_never_joins_is_ended_and_replaced_after_a_while(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (first,) = fleet.scale(group)
    fleet.set(first, launched_at=time.time() - fleet.rt.settings.register_s - 1)
    fleet.scale(group)
    assert fleet.cloud.states[first.id] is MachineState.GONE
    assert "did not join" in str(fleet.now(group).status_detail)
    # The next one is not launched at once: whatever keeps machines from joining costs money.
    assert len(fleet.cloud.launched) == 1
    fleet.set(group, retry_at=time.time() - 1)
    assert [m.id for m in fleet.scale(group)] == [fleet.cloud.launched[1]]


def test_a_silent_machine_of_a_cloud_is_ended_and_replaced(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (first,) = fleet.scale(group)
    fleet.join(first)
    fleet.set(first, launched_at=1.0, last_seen_at=time.time() - group.reconnect_s - 1)
    # Right after a start of ours it may be us who have not heard of it.
    scale_group(fleet.rt, group.id)
    assert fleet.cloud.states[first.id] is MachineState.RUNNING
    fleet.scale(group)
    assert fleet.cloud.states[first.id] is MachineState.GONE
    assert [m.id for m in fleet.scale(group)] == [fleet.cloud.launched[1]]


def test_missing_spot_capacity_is_reported_and_tried_again(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1, spot=True)
    fleet.cloud.refuses = [NoCapacity("No spot capacity for c5.large in eu-west-1a.")]
    fleet.scale(group)
    told = fleet.now(group)
    assert (told.status, told.status_detail) == (
        GroupStatus.STARTING,
        "No spot capacity for c5.large in eu-west-1a.",
    )
    fleet.scale(group)
    assert len(fleet.cloud.plans) == 1
    fleet.set(group, retry_at=time.time() - 1)
    (machine,) = fleet.scale(group)
    assert fleet.now(group).status_detail is None
    assert machine.spot


def test_where_the_group_says_so_machines_come_on_demand_instead(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1, spot=True, on_demand_fallback=True, price_hour=0.003)
    fleet.cloud.refuses = [NoCapacity("No spot capacity.")]
    (machine,) = fleet.scale(group)
    assert [plan.spot for plan in fleet.cloud.plans] == [True, False]
    assert not machine.spot
    assert machine.price_hour == fleet.rt.catalogue.machine_types["local"].on_demand


def test_a_group_that_cannot_be_started_says_why_and_can_be_started_again(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    fleet.cloud.refuses = [LaunchRefused("The image ami-1 does not exist.")] * 3
    for _ in range(3):
        fleet.set(group, retry_at=None)
        fleet.scale(group)
    told = fleet.now(group)
    assert (told.status, told.status_detail) == (
        GroupStatus.START_FAILED,
        "The image ami-1 does not exist.",
    )


def test_machines_that_do_not_end_are_reported_and_ended_again(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (machine,) = fleet.scale(group)
    fleet.join(machine)
    request_termination(fleet.rt, fleet.now(group), Cause.GROUP_TERMINATED)
    fleet.cloud.terminate = lambda *_, **__: False  # type: ignore[method-assign]
    assert not shut_down_group(fleet.rt, group.id)
    fleet.set(group, shutting_down_at=time.time() - 3600)
    assert not shut_down_group(fleet.rt, group.id)
    assert fleet.now(group).status == GroupStatus.SHUTDOWN_FAILED
    del fleet.cloud.terminate
    assert shut_down_group(fleet.rt, group.id)
    assert fleet.now(group).status == GroupStatus.TERMINATED


def test_of_too_many_machines_the_idle_ones_go(fleet: Fleet) -> None:
    group = fleet.group(num_machines=3)
    machines = fleet.scale(group)
    secrets = {machine.id: fleet.join(machine) for machine in machines}
    works = machines[0]
    with fleet.rt.store.write() as session:
        task = make_task(session, group)
    fleet.rt.queue.enqueue(group.id, [Arrival(f"{task.id}:1", 1, "{}")])
    claimer = Claimer(fleet.address(works.id, secrets[works.id]), group.id, works.id)
    assert claimer.claim(new_token()) is not None
    claimer.close()
    fleet.set(group, num_machines=1)
    drain_surplus(fleet.rt, fleet.now(group))
    assert [m.id for m in fleet.up(group)] == [works.id]


def test_a_machine_that_was_terminated_and_is_there_is_terminated_again(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (machine,) = fleet.scale(group)
    fleet.cloud.states[machine.id] = MachineState.GONE
    fleet.scale(group)
    fleet.cloud.states |= {machine.id: MachineState.RUNNING, "another's": MachineState.RUNNING}
    assert end_again(fleet.rt) == [machine.id]
    assert fleet.cloud.states[machine.id] is MachineState.GONE
    assert fleet.cloud.states["another's"] is MachineState.RUNNING


def test_after_a_redis_that_lost_its_leases_nobody_looks_idle(fleet: Fleet) -> None:
    group = fleet.group(
        num_machines=2, is_elastic=True, min_machines=0, max_machines=2, started_at=1.0
    )
    for machine in fleet.scale(group):
        fleet.join(machine)
        fleet.set(machine, launched_at=1.0)
    fleet.rt.queue.servers.main.flushdb()
    sweep(fleet.rt, started_at=time.time() + 60)
    assert len(fleet.up(group)) == 2


def test_a_lease_unknown_to_its_holder_goes_to_another_machine(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (machine,) = fleet.scale(group)
    secret = fleet.join(machine)
    with fleet.rt.store.write() as session:
        task = make_task(session, group, resubmit=True)
    enqueue_task(fleet.rt, task.id)
    claimer = Claimer(fleet.address(machine.id, secret), group.id, machine.id)
    assert claimer.claim(new_token()) is not None
    claimer.close()
    # The agent broke down right after that; the next one beats, and has never heard of it.
    keys = GroupKeys(group.id)
    fleet.rt.queue.servers.main.zadd(keys.leases, {f"{task.id}:1": 1})
    expire_leases(fleet.rt, fleet.now(group), time.time(), NOT_A_SWEEP)
    assert waiting(fleet.rt, group.id) == []
    expire_leases(fleet.rt, fleet.now(group), time.time(), None)
    assert waiting(fleet.rt, group.id) == [f"{task.id}:2"]


def test_a_launch_whose_response_was_lost_is_not_repeated(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1, spot=True, on_demand_fallback=True)
    fleet.cloud.refuses = [Uncertain("The answer was lost.")]
    fleet.scale(group)
    (machine,) = fleet.scale(group)
    assert len(fleet.cloud.plans) == 1
    assert fleet.now(group).status_detail == "The answer was lost."
    # It was there after all.
    fleet.join(machine)
    fleet.scale(group)
    assert fleet.now(group).status == GroupStatus.STARTED


def test_the_doctor_finds_orphans_and_ends_them(fleet: Fleet) -> None:
    group = fleet.group(num_machines=1)
    (machine,) = fleet.scale(group)
    fleet.join(machine)
    queue = fleet.rt.queue
    before = {(f.kind, f.what) for f in examine(fleet.rt, fix=False)}
    fleet.cloud.states["nobodys"] = MachineState.RUNNING
    raw(queue.servers.main, "ACL", "SETUSER", redis_user("ghost"), "on")
    with fleet.rt.store.write() as session:
        lost = f"{make_task(session, group).id}:1"
    queue.enqueue(group.id, [Arrival(lost, 1, "{}")])
    claimer = Claimer(fleet.redis_url, group.id, "ghost")
    assert claimer.claim(new_token()) is not None
    claimer.close()
    wrong = {("stray_machine", "nobodys"), ("stray_user", "ghost"), ("stray_lease", lost)}
    assert {(f.kind, f.what) for f in examine(fleet.rt, fix=False)} - before == wrong
    assert fleet.cloud.states["nobodys"] == MachineState.RUNNING
    mended = {(f.kind, f.what) for f in examine(fleet.rt, fix=True) if f.mended}
    assert mended >= wrong
    assert [found.machine_id for found in fleet.cloud.list_machines()] == [machine.id]
    assert not {(f.kind, f.what) for f in examine(fleet.rt, fix=False)} & wrong
    with fleet.rt.store.read() as session:
        assert (
            session.scalar(select(MachineRow.status).where(MachineRow.id == machine.id))
            == MACHINE_UP
        )
