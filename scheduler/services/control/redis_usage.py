"""Bounds for what each machine group uses of Redis.

Machines can write anything to their group's keys, so usage is measured. A group above its bounds is
cut off (`quarantine.cut_off`) before it takes the memory of the others.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select

from scheduler.domain.group_status import ACTIVE, GroupStatus
from scheduler.queue import acl
from scheduler.queue.memory import group_usages, memory_of
from scheduler.services.control.quarantine import cut_off
from scheduler.store.machine_state import MACHINE_DOWN
from scheduler.store.models import AttemptRow, GroupRow, MachineRow, TaskRow
from simherd.contract import limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis
    from sqlalchemy.orm import Session

    from scheduler.queue.memory import GroupUsage
    from scheduler.wiring import Runtime

#: What the machines of a group may take of Redis: so much for the group, and so much for each of
#: its machines. The group's share holds a stream of `EVENTS_MAX` reports while nobody records.
GROUP_REDIS_BYTES = 96 * 1024**2
MACHINE_REDIS_BYTES = 4 * 1024**2
#: Bytes for each of its tasks that has not ended: a specification with its signed URLs.
TASK_REDIS_BYTES = 64 * 1024
#: Keys for a group, for each machine (its inbox, its live answers, its leases), and for each
#: attempt that was taken up in the last `TOMBSTONE_S`.
GROUP_REDIS_KEYS = 64
MACHINE_REDIS_KEYS = 256
ATTEMPT_REDIS_KEYS = 1
#: Share from which the sweep looks for who takes too much, at each turn and exactly.
REDIS_PRESSURE_SHARE = 0.6
#: Connections of one machine to Redis: an agent has one for its inbox, its heartbeat, its reports,
#: its claims, its live answers, and what a pool adds.
MACHINE_REDIS_CONNECTIONS = 64

log = logging.getLogger(__name__)


class Bounds(NamedTuple):
    """The keys and the memory that a group may have in Redis."""

    keys: int
    bytes: int


def bound_usage(rt: Runtime, server: str, *, only_pressed: bool = False) -> None:
    """Cut off the groups that use too much of a Redis server, and drop the keys of ended ones.

    Under memory pressure each call measures, and exactly; otherwise only calls now and then do.

    `only_pressed`: do nothing without pressure. For the recorder: at the memory limit a broker on
    the same server fails too, and no sweep begins.
    """
    client = rt.queue.servers.named(server)
    is_pressed = memory_of(client).share >= REDIS_PRESSURE_SHARE
    if not is_pressed and (only_pressed or not rt.usage_clock.is_due(server)):
        return
    _bound_connections(rt, client)
    began = time.monotonic()
    usages = group_usages(client, exact=is_pressed)
    rt.usage_clock.restart(server, time.monotonic() - began)
    with rt.store.read() as session:
        groups = _groups(session, server, usages)
        bounds = {group.id: _bounds(session, group, usages[group.id]) for group in groups}
    for group in groups:
        usage, bound = usages[group.id], bounds[group.id]
        if group.status == GroupStatus.TERMINATED:
            log.warning("event=keys_left_over group=%s keys=%s", group.id, usage.keys)
            rt.queue.forget_group(group.id)
        elif usage.keys > bound.keys:
            reason = f"it has {usage.keys} keys in Redis, {bound.keys} are allowed"
            cut_off(rt, group, reason)
        elif usage.bytes > bound.bytes:
            reason = (
                f"it takes {usage.bytes / 1024**2:.0f} MiB of Redis, "
                f"{bound.bytes / 1024**2:.0f} MiB are allowed"
            )
            cut_off(rt, group, reason)


def _bound_connections(rt: Runtime, client: redis.Redis) -> None:
    """Cut off the groups of machines with more connections than an agent needs: each connection
    can hold memory with replies that are not read."""
    most = MACHINE_REDIS_CONNECTIONS
    numbers = {m: n for m, n in acl.connections(client).items() if n > most}
    if not numbers:
        return
    with rt.store.read() as session:
        query = select(MachineRow, GroupRow).join(GroupRow, GroupRow.id == MachineRow.group_id)
        machines = session.execute(query.where(MachineRow.id.in_(numbers))).all()
    for machine, group in machines:
        number = numbers[machine.id]
        reason = f"machine {machine.name} has {number} connections to Redis, {most} are allowed"
        cut_off(rt, group, reason)


def _groups(session: Session, server: str, ids: Iterable[str]) -> list[GroupRow]:
    known = [*ACTIVE, GroupStatus.TERMINATED]
    return list(
        session.scalars(
            select(GroupRow).where(
                GroupRow.id.in_(list(ids)),
                GroupRow.redis_server == server,
                GroupRow.status.in_(known),
            )
        )
    )


def _bounds(session: Session, group: GroupRow, usage: GroupUsage) -> Bounds:
    """Return a group's bounds; tasks are counted only if the rest does not explain its usage."""
    up = select(func.count()).where(
        MachineRow.group_id == group.id, MachineRow.status != MACHINE_DOWN
    )
    machines = max(group.max_machines, group.num_machines, session.scalar(up) or 0)
    keys = GROUP_REDIS_KEYS + machines * MACHINE_REDIS_KEYS
    size = GROUP_REDIS_BYTES + machines * MACHINE_REDIS_BYTES
    if usage.bytes > size:
        open_tasks = select(func.count()).where(
            TaskRow.group_id == group.id, TaskRow.end_time.is_(None)
        )
        size += TASK_REDIS_BYTES * (session.scalar(open_tasks) or 0)
    if usage.keys > keys:
        since = time.time() - limits.TOMBSTONE_S
        attempts = (
            select(func.count())
            .select_from(AttemptRow)
            .join(TaskRow, TaskRow.id == AttemptRow.task_id)
            .where(TaskRow.group_id == group.id, AttemptRow.started_at > since)
        )
        keys += ATTEMPT_REDIS_KEYS * (session.scalar(attempts) or 0)
    return Bounds(keys, size)
