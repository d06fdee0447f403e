"""The sweep: a periodic look at every group's leases, lost tasks, machines and limits.

Each part derives from SQL what should be, and repairs what is not so. Each is safe to run at any
time, twice at once, or not at all for a while.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import OperationalError

from scheduler.domain.group_status import ACTIVE, ENDING, UP
from scheduler.domain.limits import MAIN_SERVER
from scheduler.domain.losses import grace_period
from scheduler.metrics import table
from scheduler.metrics.instruments import set_gauge
from scheduler.queue.notes import write_note
from scheduler.services.control.expire_deadlines import expire_deadlines
from scheduler.services.control.leadership import acquire, extend_until, new_holder
from scheduler.services.control.lost import expire_leases, mark_gangs_lost
from scheduler.services.control.quarantine import isolated, release_ending
from scheduler.services.control.reconcile_queue import reconcile_queue
from scheduler.services.control.redis_usage import bound_usage
from scheduler.services.errors import Conflict
from scheduler.services.groups.autoscale import note_size
from scheduler.services.groups.terminate import overdue_groups, request_termination, shut_down_group
from scheduler.services.machines.access import restore_access
from scheduler.services.machines.health import retire_drained
from scheduler.services.machines.provision import scale_group
from scheduler.store.models import GroupRow, MachineRow
from simherd.contract.queue.keys import EPOCH

if TYPE_CHECKING:
    from scheduler.domain.losses import GracePeriod
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: The name of the job, and of the leadership of the process that sweeps one Redis server.
SWEEP = "sweep"
#: Seconds after which another process sweeps if the one that began has not reported its end.
_LONGEST_S = 50.0
#: Seconds that one sweep gives to filling queues that Redis has lost, and to ending tasks.
_FILLING_S = 30.0


def sweep_in_turn(rt: Runtime, server: str, started_at: float) -> None:
    """Sweep a server's groups, unless another process does so now, or has just done so.
    `started_at`: when this scheduler process started, see `sweep`."""
    leadership, holder, began = f"{SWEEP}:{server}", new_holder(), time.time()
    if not acquire(rt.store, leadership, holder, began, _LONGEST_S):
        return
    try:
        sweep(rt, started_at, server)
        set_gauge(table.SWEPT, time.time(), server)
    finally:
        # A little less than the time between two sweeps, so that the next one can acquire it.
        extend_until(rt.store, leadership, holder, began + 0.8 * rt.settings.sweep_s)


def sweep(rt: Runtime, started_at: float, server: str = MAIN_SERVER) -> None:
    """Sweep every active group of a Redis server once.

    `started_at`: when this scheduler process started, seconds since the epoch; a grace period
    follows it.
    """
    now = time.time()
    restore_access(rt, server)
    for group, cause in overdue_groups(rt, server, now):
        log.warning("event=group_limit group=%s cause=%s", group.id, cause)
        # Its user may have terminated it in the meantime.
        with contextlib.suppress(Conflict):
            request_termination(rt, group, cause)
    expire_deadlines(rt, server, now)
    bound_usage(rt, server)
    with rt.store.read() as session:
        groups = session.scalars(
            select(GroupRow).where(GroupRow.status.in_(ACTIVE), GroupRow.redis_server == server)
        ).all()
    grace = grace_period(
        now,
        rt.settings.grace_s,
        scheduler_started_at=started_at,
        redis_started_at=_redis_started_at(rt, server, now),
    )
    if grace is not None:
        log.info("event=grace_period server=%s until=%.0f why=%r", server, grace.until, grace.why)
    until = time.monotonic() + _FILLING_S
    for number, group in enumerate(groups):
        left = max(0.0, until - time.monotonic()) / (len(groups) - number)
        try:
            with isolated(rt, group.id):
                _sweep_group(rt, group, now, grace, left)
        except (redis.RedisError, OperationalError):
            raise
        except Exception:
            # A fault of one group, for example of its provider, must not stop the others.
            log.exception("event=sweep_broke group=%s", group.id)


def _sweep_group(
    rt: Runtime, group: GroupRow, now: float, grace: GracePeriod | None, filling_s: float
) -> None:
    release_ending(rt, group)
    if group.status in ENDING:
        shut_down_group(rt, group.id, filling_s)
        return
    if group.quarantined_at is not None:
        return
    rt.queue.reader.check(group.id)
    reconcile_queue(rt, group, filling_s)
    _store_heartbeats(rt, group)
    if group.status in UP:
        note_size(rt, group, grace=grace)
        if grace is None:
            retire_drained(rt, group)
        scale_group(rt, group.id, grace=grace)
    # After `scale_group`, so that a machine it found gone loses its attempts in this sweep.
    mark_gangs_lost(rt, group, now, grace)
    expire_leases(rt, group, now, grace)


def _redis_started_at(rt: Runtime, server: str, now: float) -> float:
    """Return when Redis started, or lost its data, whichever was later."""
    client = rt.queue.servers.named(server)
    write_note(client, EPOCH, now, is_new=True)
    epoch: Any = client.get(EPOCH)
    info: Any = client.info("server")
    return max(float(epoch or now), now - float(info["uptime_in_seconds"]))


def _store_heartbeats(rt: Runtime, group: GroupRow) -> None:
    heartbeats = rt.queue.reader.heartbeats(group.id)
    if not heartbeats:
        return
    with rt.store.write() as session:
        session.connection().execute(
            update(MachineRow)
            .where(MachineRow.id == bindparam("machine"), MachineRow.group_id == group.id)
            .values(last_seen_at=bindparam("seen")),
            [{"machine": machine_id, "seen": seen} for machine_id, seen in heartbeats.items()],
        )
