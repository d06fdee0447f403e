"""Notices that machines are about to be reclaimed: others are launched in their place."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from scheduler.domain.group_size import size_after_reclaim
from scheduler.services.machines.access import known_machine
from scheduler.store.models import GroupRow
from scheduler.store.outbox import group_changed
from simherd.contract.notifications import NotificationTrigger

if TYPE_CHECKING:
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)


def note_reclaim(rt: Runtime, machine_id: str, secret: str, reclaim_at: float | None) -> None:
    """Record when a machine is reclaimed, or that it stays after all.

    `machine_id`: the machine that reports it. `reclaim_at`: when the provider takes it, seconds
    since the epoch; None: it stays.

    Raises Forbidden: the secret is not this machine's.
    """
    with rt.store.write() as session:
        machine = known_machine(session, machine_id, secret)
        first = machine.reclaim_at is None
        machine.reclaim_at = reclaim_at
        group = session.get_one(GroupRow, machine.group_id)
        idle = machine_id not in rt.queue.reader.leases(group.id).holders.values()
        if reclaim_at is not None:
            group_changed(
                session, group.id, NotificationTrigger.GROUP_PREEMPTION, time.time(), machine_id
            )
        if first and reclaim_at is not None and group.is_elastic and idle:
            group.num_machines = size_after_reclaim(group.num_machines, group.min_machines)
        group_id = group.id
    log.warning("event=reclaim_noted machine=%s at=%s", machine_id, reclaim_at)
    if reclaim_at is not None:
        rt.send_job("scale_group", group_id)
