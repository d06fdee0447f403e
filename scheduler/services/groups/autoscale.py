"""Set the size of elastic groups, and drain the machines that a group does not need."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from scheduler.domain.group_size import (
    GroupLoad,
    MachineUse,
    count_idle,
    machines_to_drain,
    wanted_size,
)
from scheduler.domain.group_status import UP
from scheduler.domain.machine_status import MachineStatus
from scheduler.services.machines.busy import busy_machines
from scheduler.services.machines.provision import available_machines
from scheduler.store.models import AttemptRow, GroupRow, TaskRow
from scheduler.store.transitions import change_machine

if TYPE_CHECKING:
    from scheduler.domain.losses import GracePeriod
    from scheduler.store.models import MachineRow
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)


def note_size(rt: Runtime, group: GroupRow, *, grace: GracePeriod | None) -> None:
    """Store the size that a group should have, and drain the machines that are too many.

    `grace`: the grace period that holds now; in it, no machine goes. A Redis that has lost its
    leases makes all machines look idle.
    """
    adjust_size(rt, group, time.time(), grace=grace)
    if grace is None:
        drain_surplus(rt, group)


def adjust_size(rt: Runtime, group: GroupRow, now: float, *, grace: GracePeriod | None) -> None:
    """Store the size that an elastic group should have; `scale_group` makes it so.
    `grace`: the grace period that holds now; in it, the group only grows."""
    if not group.is_elastic or group.status not in UP:
        return
    load = _load(rt, group, now)
    size = wanted_size(load, group.min_machines, group.max_machines)
    if size == group.num_machines or (grace is not None and size < group.num_machines):
        return
    log.info("event=resized group=%s from=%s to=%s %s", group.id, group.num_machines, size, load)
    with rt.store.write() as session:
        session.execute(
            update(GroupRow).where(GroupRow.id == group.id).values(num_machines=size, scaled_at=now)
        )
    group.num_machines = size


def drain_surplus(rt: Runtime, group: GroupRow) -> None:
    """Have the machines that are too many take nothing more.
    One that still works ends what it has: `retire_drained` terminates it afterwards."""
    with rt.store.read() as session:
        size = session.scalars(select(GroupRow.num_machines).where(GroupRow.id == group.id)).one()
        machines = available_machines(session, group.id)
    if len(machines) <= size or rt.providers[group.provider].by_hand:
        return
    uses = _machine_uses(rt, group, machines)
    for machine_id in machines_to_drain(uses, size, is_elastic=group.is_elastic):
        with rt.store.write() as session:
            is_drained = change_machine(
                session,
                machine_id,
                MachineStatus.DRAINED,
                at=time.time(),
                drain_reason="It is not needed any more.",
            )
        if is_drained:
            rt.queue.drain(group.id, machine_id)
            log.info("event=machine_not_needed group=%s machine=%s", group.id, machine_id)


def _load(rt: Runtime, group: GroupRow, now: float) -> GroupLoad:
    with rt.store.read() as session:
        machines = available_machines(session, group.id)
    ids = {m.id for m in machines}
    reader, idle_s = rt.queue.reader, rt.settings.elastic_idle_s
    slots = max([1, *(facts["slots"] for facts in reader.facts(group.id, list(ids)).values())])
    held = sum(holder in ids for holder in reader.leases(group.id).holders.values())
    waiting = reader.queue_length(group.id)
    return GroupLoad(
        waiting=waiting,
        next_waited_s=_next_waited(rt, group.id, now) if waiting else 0.0,
        machines=len(machines),
        slots=slots,
        free_slots=max(0, slots * len(machines) - held),
        idle=count_idle(_machine_uses(rt, group, machines), now, idle_s),
        is_settled=now - (group.scaled_at or group.started_at or 0.0) >= idle_s,
    )


def _next_waited(rt: Runtime, group_id: str, now: float) -> float:
    task_id = rt.queue.reader.next_task(group_id)
    if task_id is None:
        return 0.0
    with rt.store.read() as session:
        queued_at = session.scalar(select(TaskRow.queued_at).where(TaskRow.id == task_id))
    return now - (queued_at or now)


def _machine_uses(rt: Runtime, group: GroupRow, machines: list[MachineRow]) -> list[MachineUse]:
    busy = busy_machines(rt, group)
    with rt.store.read() as session:
        ends = {
            machine_id: ended_at
            for machine_id, ended_at in session.execute(
                select(AttemptRow.machine_id, func.max(AttemptRow.ended_at))
                .where(AttemptRow.machine_id.in_([m.id for m in machines]))
                .group_by(AttemptRow.machine_id)
            )
        }
    return [
        MachineUse(
            m.id,
            m.created_at,
            m.launched_at,
            has_joined=m.last_seen_at is not None,
            is_busy=m.id in busy,
            last_ended_at=ends.get(m.id),
        )
        for m in machines
    ]
