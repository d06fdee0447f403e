"""MPI groups that lose a machine: judged by the same rule as a machine that works alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from executor.link.lease import Claimer, new_token
from scheduler.domain.losses import MASS_LOSS_MINIMUM, NOT_A_SWEEP, GracePeriod
from scheduler.providers.base import MachineState
from scheduler.services.control.lost import expire_leases, mark_gangs_lost
from scheduler.services.tasks.enqueue import enqueue_task
from scheduler.store.machine_state import MACHINE_DOWN
from scheduler.store.models import AttemptRow, GroupRow, MachineRow
from simherd.contract import limits
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order
from simherd.contract.queue.keys import GroupKeys
from tests.support.builders import make_group, make_task
from tests.support.queue import held_in
from tests.support.runtime import add_machine, make_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime
    from tests.support.runtime import Machines


class Gang:
    """An MPI group whose machines, the leader first, work on one task."""

    def __init__(self, rt: Runtime, machines: Machines, redis_url: str, size: int) -> None:
        self.rt, self.states = rt, machines.states
        with rt.store.write() as session:
            self.group: GroupRow = make_group(session, group_type="mpi", spot=True)
            self.task = make_task(session, self.group, resubmit=True)
        self.members = [f"{self.group.id[:8]}-{i}" for i in range(size)]
        self.leader, self.member = self.members[0], self.members[-1]
        for name in self.members:
            add_machine(rt, self.group.id, name)
            self.set(name, spot=True, created_at=1.0)
            self.states[name] = MachineState.RUNNING
        enqueue_task(rt, self.task.id)
        claimer = Claimer(redis_url, self.group.id, self.leader)
        assert claimer.claim(new_token()) is not None
        claimer.close()
        self.keys, self.client = GroupKeys(self.group.id), rt.queue.servers.main
        self.attempt = f"{self.task.id}:1"
        self.client.hset(self.keys.gangs, self.attempt, ",".join(self.members))
        for name in self.members:
            self.hear(name, 0.0)

    def set(self, machine: str, **values: Any) -> None:
        with self.rt.store.write() as session:
            row = session.get_one(MachineRow, machine)
            for name, value in values.items():
                setattr(row, name, value)

    def hear(self, machine: str, seconds_ago: float) -> None:
        self.client.zadd(self.keys.machines, {machine: 1000 * (time.time() - seconds_ago)})

    def look(self, grace: GracePeriod | None = None) -> None:
        mark_gangs_lost(self.rt, self.group, time.time(), grace)

    def messages(self, machine: str) -> list[Message]:
        entries: Any = self.client.xrange(self.keys.inbox(machine))
        return [Message.decode(next(iter(fields.values()))) for _, fields in entries]

    def cause(self) -> str | None:
        with self.rt.store.read() as session:
            query = select(AttemptRow.cause).where(AttemptRow.task_id == self.task.id)
            cause: str | None = session.scalar(query.where(AttemptRow.attempt == 1))
        return cause


@pytest.fixture
def site(database_url: str, store: Store, redis_url: str, tmp_path: Path, request: Any) -> Gang:
    rt, machines = make_runtime(database_url, redis_url, tmp_path)
    return Gang(rt, machines, redis_url, getattr(request, "param", 3))


def test_machines_with_heartbeats_are_left_alone(site: Gang) -> None:
    site.look()
    assert site.messages(site.leader) == []
    assert held_in(site.rt.queue, site.group.id) == [site.attempt]


def test_a_silent_member_is_reported_to_the_leader(site: Gang) -> None:
    site.hear(site.member, limits.LEASE_S + 5)
    site.look()
    (message,) = site.messages(site.leader)
    assert (message.order, message.cause) == (Order.STOP, Cause.MACHINE_LOST)
    assert message.detail == f"Machine {site.member} of the MPI group was lost."
    assert site.cause() is None


def test_in_a_grace_period_a_silent_member_is_not_lost(site: Gang) -> None:
    site.hear(site.member, limits.LEASE_S + 5)
    site.look(NOT_A_SWEEP)
    assert site.messages(site.leader) == []


def test_a_member_that_was_not_heard_of_since_redis_lost_its_data_is_not_silent(site: Gang) -> None:
    site.client.zrem(site.keys.machines, site.member)
    site.look()
    assert site.messages(site.leader) == []


def test_a_silent_leader_is_left_to_its_lease(site: Gang) -> None:
    site.hear(site.leader, limits.LEASE_S + 5)
    site.look()
    assert site.messages(site.leader) == []
    assert held_in(site.rt.queue, site.group.id) == [site.attempt]


@pytest.mark.parametrize("site", [MASS_LOSS_MINIMUM + 1], indirect=True)
def test_when_many_members_fall_silent_at_once_none_is_lost(site: Gang) -> None:
    for name in site.members[1:]:
        site.hear(name, limits.LEASE_S + 5)
    site.look()
    assert site.messages(site.leader) == []
    # Unless the provider says of one that it is gone indeed.
    site.states[site.member] = MachineState.GONE
    site.look()
    (message,) = site.messages(site.leader)
    assert (message.cause, message.detail) == (
        Cause.SPOT_RECLAIMED,
        f"Machine {site.member} of the MPI group was lost.",
    )


@pytest.mark.parametrize(
    ("is_down", "cause"), [(False, Cause.SPOT_RECLAIMED), (True, Cause.MACHINE_LOST)]
)
@pytest.mark.parametrize("rule", [mark_gangs_lost, expire_leases])
def test_a_leader_that_is_gone_ends_the_attempt_with_one_cause_by_either_rule(
    site: Gang, rule: Any, is_down: bool, cause: Cause
) -> None:
    """A spot machine that the scheduler terminated itself was not reclaimed."""
    site.states[site.leader] = MachineState.GONE
    if is_down:
        site.set(site.leader, status=MACHINE_DOWN, terminated_at=time.time())
    site.client.zadd(site.keys.leases, {site.attempt: 1000 * time.time() - 1})
    rule(site.rt, site.group, time.time(), None)
    assert site.cause() == cause
    if rule is mark_gangs_lost:
        assert [m.cause for m in site.messages(site.member)] == [Cause.LEASE_LOST]
