"""The machines of a group that have something to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.store.models import TaskRow
from simherd.contract.lifecycle import HELD

if TYPE_CHECKING:
    from scheduler.store.models import GroupRow
    from scheduler.wiring import Runtime


def busy_machines(rt: Runtime, group: GroupRow) -> set[str]:
    """Return the machines that hold an attempt by Redis, by SQL, or as members of an MPI group."""
    members = {m for gang in rt.queue.reader.mpi_groups(group.id).values() for m in gang}
    with rt.store.read() as session:
        in_sql = session.scalars(
            select(TaskRow.machine_id).where(
                TaskRow.group_id == group.id,
                TaskRow.status.in_([s.value for s in HELD]),
                TaskRow.machine_id.is_not(None),
            )
        ).all()
    return (
        set(rt.queue.reader.leases(group.id).holders.values())
        | members
        | {str(machine) for machine in in_sql}
    )
