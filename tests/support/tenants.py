"""Tenants of a deployment, each with a machine that can be honest or stolen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.services.tasks.enqueue import enqueue_task
from scheduler.store.models import TaskRow
from tests.support.builders import make_task
from tests.support.hostile import HonestMachine, Stranger, Victim, client_of

if TYPE_CHECKING:
    from scheduler.store.models import GroupRow
    from tests.support.cloud import Fleet


class Tenant:
    """A user with a group, one machine that does its work, and tasks."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.group: GroupRow = fleet.group(num_machines=1, status="started")
        (self.machine,) = fleet.scale(self.group)
        self.secret = fleet.join(self.machine)

    def task(self) -> TaskRow:
        """A task that waits."""
        with self.fleet.rt.store.write() as session:
            task = make_task(session, self.group)
        enqueue_task(self.fleet.rt, task.id)
        return task

    def honest(self) -> HonestMachine:
        """Its machine, at work."""
        return HonestMachine(self.fleet.redis_url, self.machine, self.secret)

    def stolen(self) -> Stranger:
        """Its machine, stolen, with a task of the tenant's that waits."""
        client = client_of(self.fleet.redis_url, self.machine, self.secret)
        return Stranger(
            client, self.group.id, self.machine.id, self.task().id, lambda: self.task().id
        )

    def as_victim(self, machine: HonestMachine) -> Victim:
        """What strangers know of it."""
        task = machine.attempt.partition(":")[0]
        return Victim(self.group.id, self.machine.id, task, machine.attempt)


def task_now(fleet: Fleet, task_id: str) -> TaskRow:
    """The task as it is."""
    with fleet.rt.store.read() as session:
        return session.scalars(select(TaskRow).where(TaskRow.id == task_id)).one()


def ended(fleet: Fleet, task_id: str) -> TaskRow | None:
    """The task, once it has ended."""
    task = task_now(fleet, task_id)
    return task if task.end_time is not None else None
