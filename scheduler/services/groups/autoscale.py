"""How many machines an elastic group should have, and which may go."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from scheduler.domain.group_status import UP
from scheduler.services.machines.busy import busy_machines
from scheduler.services.machines.provision import machines_of
from scheduler.store.machine_state import MACHINE_DRAINED, MACHINE_UP
from scheduler.store.models import AttemptRow, GroupRow, MachineRow, TaskRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.domain.losses import GracePeriod
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: Seconds that the next task in line has waited before machines are added for the queue.
GROW_AFTER_S = 5.0


@dataclass(frozen=True)
class Load:
    """What a group has to do, and what it has to do it with."""

    #: Tasks in the queue, and seconds that the next in line has waited.
    waiting: int
    next_waited_s: float
    #: Machines that are there or on their way, and the slots of one.
    machines: int
    slots: int
    #: Slots of theirs that nobody computes in, those of machines on their way included.
    free_slots: int
    #: Machines that have had nothing to do for as long as they may.
    idle: int
    #: Whether the size has not changed for that long either.
    settled: bool


def wanted_size(load: Load, smallest: int, largest: int) -> int:
    """How many machines the group should have now.

    It grows at once by as many as the queue could use, and shrinks only by machines that have had
    nothing to do for a while, with nothing in the queue, and not soon after a change: one that was
    just added is given work.
    """
    size = load.machines
    lacking = load.waiting - load.free_slots
    if lacking > 0 and (size == 0 or load.next_waited_s >= GROW_AFTER_S):
        size += math.ceil(lacking / load.slots)
    elif not load.waiting and load.settled:
        size -= load.idle
    return min(largest, max(smallest, size))


def adjust_size(rt: Runtime, group: GroupRow, now: float, *, grace: GracePeriod | None) -> None:
    """Note the size that an elastic group should have; `scale_group` makes it so.

    `grace`: the grace period that holds now; in it, the group only grows.
    """
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


def _load(rt: Runtime, group: GroupRow, now: float) -> Load:
    with rt.store.read() as session:
        machines = [m for m in machines_of(session, group.id, MACHINE_UP) if m.reclaim_at is None]
    since = _idle_since(rt, group, machines)
    reader, patience = rt.queue.reader, rt.settings.elastic_idle_s
    facts = reader.facts(group.id, [m.id for m in machines])
    slots = max([1, *(f["slots"] for f in facts.values())])
    here = {m.id for m in machines}
    held = sum(1 for holder in reader.leases(group.id).holders.values() if holder in here)
    waiting = reader.queue_length(group.id)
    return Load(
        waiting=waiting,
        next_waited_s=_next_waited(rt, group.id, now) if waiting else 0.0,
        machines=len(machines),
        slots=slots,
        free_slots=max(0, slots * len(machines) - held),
        idle=sum(1 for at in since.values() if now - at >= patience),
        settled=now - (group.scaled_at or group.started_at or 0.0) >= patience,
    )


def _next_waited(rt: Runtime, group_id: str, now: float) -> float:
    first = rt.queue.reader.next_task(group_id)
    if first is None:
        return 0.0
    with rt.store.read() as session:
        at = session.scalar(select(TaskRow.queued_at).where(TaskRow.id == first))
    return now - (at or now)


def _idle_since(rt: Runtime, group: GroupRow, machines: list[MachineRow]) -> Mapping[str, float]:
    """The machines that have joined and hold nothing → since when, seconds since the epoch."""
    busy = busy_machines(rt, group)
    with rt.store.read() as session:
        ended = {
            str(machine_id): float(at)
            for machine_id, at in session.execute(
                select(AttemptRow.machine_id, func.max(AttemptRow.ended_at))
                .where(AttemptRow.machine_id.in_([m.id for m in machines]))
                .group_by(AttemptRow.machine_id)
            )
            if at is not None
        }
    return {
        m.id: max(ended.get(m.id, 0.0), m.launched_at or m.created_at)
        for m in machines
        if m.id not in busy and m.last_seen_at is not None
    }


def drain_surplus(rt: Runtime, group: GroupRow) -> None:
    """Have the machines that are too many take nothing more; those with nothing to do first.

    One that still works ends what it has: `retire_drained` terminates it afterwards.
    """
    with rt.store.read() as session:
        size = session.scalars(select(GroupRow.num_machines).where(GroupRow.id == group.id)).one()
        machines = [m for m in machines_of(session, group.id, MACHINE_UP) if m.reclaim_at is None]
    surplus = len(machines) - size
    if surplus <= 0 or rt.providers[group.provider].by_hand:
        return
    since = _idle_since(rt, group, machines)
    # The one that has been idle for longest goes first, one that works last.
    machines.sort(key=lambda m: since.get(m.id, math.inf))
    for machine in machines[:surplus]:
        if group.is_elastic and machine.id not in since and machine.launched_at is not None:
            # It was given work meanwhile: it stays, and the size follows at the next look.
            continue
        with rt.store.write() as session:
            session.execute(
                update(MachineRow)
                .where(MachineRow.id == machine.id, MachineRow.status == MACHINE_UP)
                .values(status=MACHINE_DRAINED, drain_reason="It is not needed any more.")
            )
        rt.queue.drain(group.id, machine.id)
        log.info("event=machine_not_needed group=%s machine=%s", group.id, machine.id)


def note_size(rt: Runtime, group: GroupRow, *, grace: GracePeriod | None) -> None:
    """Note the size that a group should have, and drain the machines that are too many.

    `grace`: the grace period that holds now; in it, none goes. A Redis that has lost its leases
    makes all machines look idle.
    """
    adjust_size(rt, group, time.time(), grace=grace)
    if grace is None:
        drain_surplus(rt, group)
