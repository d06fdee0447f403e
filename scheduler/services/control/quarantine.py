"""Quarantine for machine groups whose keys in Redis are broken, so that no other group suffers.

The recorder and the sweep skip a quarantined group, and it takes no tasks. Its machines, its tasks
and their history stay as they are in SQL until an operator has its keys made again from SQL
(`repair_group`). A group that is being terminated needs no repair: its keys are dropped, and it
ends.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy import select, update

from scheduler.domain.group_status import ACTIVE, ENDING
from scheduler.queue import acl
from scheduler.queue.broken_keys import broken_keys
from scheduler.services.accounts.audit import add_audit_entry
from scheduler.services.control.reconcile_queue import reconcile_queue
from scheduler.services.errors import Conflict
from scheduler.services.groups.admin import group_state
from scheduler.services.machines.access import readmit
from scheduler.store.machine_state import MACHINE_DOWN
from scheduler.store.models import GroupRow, MachineRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.services.groups.admin import GroupState
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: Characters of the reason that are stored.
_REASON = 500
#: Seconds that a repair gives to filling the queue again; the sweep does the rest.
_FILLING_S = 20.0


@contextlib.contextmanager
def isolated(rt: Runtime, group_id: str) -> Iterator[None]:
    """Quarantine a group if an error inside shows that its keys are broken; raise other errors."""
    try:
        yield
    except redis.RedisError as error:
        reason = broken_keys(error)
        if reason is None:
            raise
        quarantine(rt, group_id, reason)


def quarantine(rt: Runtime, group_id: str, reason: str) -> bool:
    """Quarantine a group; repeating it changes nothing.

    `reason`: which of its keys is broken, and how; shown to its owner and to operators.

    Returns whether it was not quarantined before.
    """
    with rt.store.write() as session:
        changed: Any = session.execute(
            update(GroupRow)
            .where(GroupRow.id == group_id, GroupRow.quarantined_at.is_(None))
            .values(quarantined_at=time.time(), quarantine_reason=reason[:_REASON])
        )
    if changed.rowcount:
        log.error("event=group_quarantined group=%s reason=%s", group_id, reason)
    return bool(changed.rowcount)


def cut_off(rt: Runtime, group: GroupRow, reason: str) -> None:
    """Quarantine a group whose machines use too much of Redis: revoke their access, and drop what
    they have written."""
    quarantine(rt, group.id, reason)
    client = rt.queue.servers.of(group.id)
    with rt.store.read() as session:
        machines = session.scalars(
            select(MachineRow.id).where(
                MachineRow.group_id == group.id, MachineRow.status != MACHINE_DOWN
            )
        ).all()
    for machine_id in machines:
        acl.revoke_acl(client, machine_id)
    rt.queue.forget_group(group.id)


def release_ending(rt: Runtime, group: GroupRow) -> None:
    """End the quarantine of a group that is being terminated, after dropping its keys."""
    if group.quarantined_at is None or group.status not in ENDING:
        return
    rt.queue.forget_group(group.id)
    _release(rt, group.id)


def repair_group(rt: Runtime, actor: str, named: str) -> GroupState:
    """Make the keys of a quarantined group again, from SQL.

    Waiting tasks are queued again. Machines get access with the secrets that they have; with their
    next heartbeats they present their leases, and they send the reports that were not recorded.

    `named`: the group's id, or its name if no other group has it.

    Raises:
        ResourceNotFound: there is no such group.
        Conflict: several groups have the name, or the group is not quarantined.
    """
    with rt.store.read() as session:
        state = group_state(session, named)
    group = state.group
    if group.quarantined_at is None:
        raise Conflict(f"group: {group.name!r} is not quarantined, so there is nothing to repair.")
    rt.queue.forget_group(group.id)
    with rt.store.write() as session:
        add_audit_entry(
            session,
            actor,
            "group_repair",
            group.name,
            group=group.id,
            reason=group.quarantine_reason,
        )
    _release(rt, group.id)
    readmit(rt, group.id)
    if group.status in ACTIVE - ENDING:
        reconcile_queue(rt, group, _FILLING_S)
    rt.queue.announce_group(group.id)
    log.warning("event=group_repaired group=%s actor=%s", group.id, actor)
    with rt.store.read() as session:
        return group_state(session, group.id)


def _release(rt: Runtime, group_id: str) -> None:
    with rt.store.write() as session:
        session.execute(
            update(GroupRow)
            .where(GroupRow.id == group_id)
            # Its stream begins again, perhaps with another clock.
            .values(quarantined_at=None, quarantine_reason=None, event_cursor="0-0")
        )
