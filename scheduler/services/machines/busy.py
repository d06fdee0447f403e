"""Which machines of a group have something to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.store.models import Task
from simherd.contract.lifecycle import HELD

if TYPE_CHECKING:
    from scheduler.store.models import MachineGroup
    from scheduler.wiring import Parts


def busy_machines(parts: Parts, group: MachineGroup) -> set[str]:
    """The machines that hold an attempt, or are said to: by Redis, by SQL, by their leaders."""
    members = {m for gang in parts.queue.reader.mpi_groups(group.id).values() for m in gang}
    with parts.store.read() as session:
        told = session.scalars(
            select(Task.machine_id).where(
                Task.group_id == group.id,
                Task.status.in_([s.value for s in HELD]),
                Task.machine_id.is_not(None),
            )
        ).all()
    return (
        set(parts.queue.reader.leases(group.id).holders.values())
        | members
        | {str(machine) for machine in told}
    )
