"""What is looked at again and again: leases, lost tasks, machines, group limits.

Everything here derives what should be from SQL and repairs what is not so. Each part is safe
to run at any time, twice at once, or not at all for a while.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.exc import OperationalError

from scheduler.domain.group_status import ACTIVE, ENDING, UP
from scheduler.metrics import table
from scheduler.metrics.instruments import inc, set_gauge
from scheduler.providers.base import MachineState
from scheduler.queue.notes import write_note
from scheduler.services.attempts.end import end_attempt
from scheduler.services.attempts.gangs import mark_gangs_lost
from scheduler.services.attempts.rows import open_attempt
from scheduler.services.control.expire_deadlines import expire_deadlines
from scheduler.services.control.leadership import acquire, extend_until, new_holder
from scheduler.services.control.quarantine import isolated, release_ending
from scheduler.services.control.reconcile_queue import reconcile_queue
from scheduler.services.control.redis_usage import bound_usage
from scheduler.services.errors import Conflict
from scheduler.services.groups.autoscale import note_size
from scheduler.services.groups.terminate import overdue_groups, request_termination, shut_down_group
from scheduler.services.machines.access import restore_access
from scheduler.services.machines.health import retire_drained
from scheduler.services.machines.provision import scale_group
from scheduler.services.tasks.enqueue import enqueue_task
from scheduler.store.machine_state import MACHINE_DOWN
from scheduler.store.models import GroupRow, MachineRow, TaskRow
from scheduler.store.transitions import change_status
from simherd.contract import limits
from simherd.contract.attempt_spec import attempt_key, parse_attempt
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import HELD, Status
from simherd.contract.queue.keys import EPOCH

if TYPE_CHECKING:
    from scheduler.queue.group_reader import Leases
    from scheduler.store.unit_of_work import UnitOfWork
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: The job that sweeps, and the duty of whoever does it for one Redis server.
SWEEP = "sweep"
#: Seconds after which somebody else sweeps, when whoever began has said nothing of its end.
_LONGEST_S = 50.0
#: Seconds that one sweep gives to filling queues that Redis has lost, and to ending tasks.
_FILLING_S = 30.0
#: Seconds after which a terminated machine need not be known any more.
_LONG_AGO_S = 86400.0


def sweep_in_turn(rt: Runtime, server: str, started_at: float) -> None:
    """Look at a server's groups, unless some process has done so, or does so just now.

    Args:
        parts: the scheduler's parts.
        server: the name of the Redis server.
        started_at: when this scheduler process started, see `sweep`.
    """
    duty, holder, began = f"{SWEEP}:{server}", new_holder(), time.time()
    if not acquire(rt.store, duty, holder, began, _LONGEST_S):
        return
    try:
        sweep(rt, started_at, server)
        set_gauge(table.SWEPT, time.time(), server)
    finally:
        # A little less than the time between two: the next one must not find it still taken.
        extend_until(rt.store, duty, holder, began + 0.8 * rt.settings.sweep_s)


def sweep(rt: Runtime, started_at: float, server: str = limits.MAIN_SERVER) -> None:
    """Look at every active group of a Redis server once.

    Args:
        parts: the scheduler's parts.
        started_at: when this scheduler process started; for a while after that, nobody is
            declared lost for being silent.
        server: the server's name.
    """
    now = time.time()
    restore_access(rt, server)
    for group, cause in overdue_groups(rt, server, now):
        log.warning("event=group_limit group=%s cause=%s", group.id, cause)
        # Its user may terminate it just now, too.
        with contextlib.suppress(Conflict):
            request_termination(rt, group, cause)
    expire_deadlines(rt, server, now)
    bound_usage(rt, server)
    with rt.store.read() as session:
        groups = session.scalars(
            select(GroupRow).where(GroupRow.status.in_(ACTIVE), GroupRow.redis_server == server)
        ).all()
    new = _redis_is_new(rt, server, now)
    patient = now < started_at + rt.settings.grace_s or new
    until = time.monotonic() + _FILLING_S
    for number, group in enumerate(groups):
        left = max(0.0, until - time.monotonic()) / (len(groups) - number)
        try:
            with isolated(rt, group.id):
                _sweep_group(rt, group, now, patient, left)
        except (redis.RedisError, OperationalError):
            raise
        except Exception:
            # What is wrong with one group, such as its provider, holds up no other.
            log.exception("event=sweep_broke group=%s", group.id)


def _sweep_group(rt: Runtime, group: GroupRow, now: float, patient: bool, filling_s: float) -> None:
    release_ending(rt, group)
    if group.status in ENDING:
        shut_down_group(rt, group.id, filling_s)
        return
    if group.quarantined_at is not None:
        return
    rt.queue.reader.check(group.id)
    reconcile_queue(rt, group, filling_s)
    _note_heartbeats(rt, group)
    if group.status in UP:
        note_size(rt, group, patient=patient)
        if not patient:
            retire_drained(rt, group)
        scale_group(rt, group.id, patient=patient)
    # After the machines were looked at: one that is known to be gone loses its attempts at once.
    mark_gangs_lost(rt, group, now, patient, functools.partial(mark_attempt_lost, rt, group))
    expire_leases(rt, group, now, patient)


def _redis_is_new(rt: Runtime, server: str, now: float) -> bool:
    """Whether Redis lost its data, or restarted, less than the grace period ago."""
    client = rt.queue.servers.named(server)
    write_note(client, EPOCH, now, is_new=True)
    epoch: Any = client.get(EPOCH)
    info: Any = client.info("server")
    newest = max(float(epoch or now), now - float(info["uptime_in_seconds"]))
    return now < newest + rt.settings.grace_s


def expire_leases(rt: Runtime, group: GroupRow, now: float, patient: bool) -> None:
    """End the attempts whose machine is gone, or has been silent for too long."""
    leases = rt.queue.reader.leases(group.id)
    beats = {machine: ms / 1000 for machine, ms in leases.seen_ms.items()}
    silent = {lease.attempt: lease.holder for lease in leases.overdue}
    with rt.store.read() as session:
        running = session.execute(
            select(TaskRow.id, TaskRow.attempt, TaskRow.machine_id).where(
                TaskRow.group_id == group.id, TaskRow.status.in_([s.value for s in HELD])
            )
        ).all()
        machines = {
            m.id: m
            for m in session.scalars(
                select(MachineRow).where(
                    MachineRow.group_id == group.id,
                    # Of one that went long ago nothing is known: it is gone all the same.
                    or_(
                        MachineRow.terminated_at.is_(None),
                        MachineRow.terminated_at > now - _LONG_AGO_S,
                    ),
                )
            )
        }
    held = leases.holders
    for task_id, attempt, machine_id in running:
        key = attempt_key(task_id, attempt)
        if key not in held and machine_id:
            silent.setdefault(key, machine_id)
    for key, holder in held.items():
        if holder in machines and machines[holder].status == MACHINE_DOWN:
            silent.setdefault(key, holder)
    gone = _gone(rt, group, machines, set(silent.values()))
    dropped: set[str] = set() if patient else _dropped(leases, silent, beats, now)
    lost = {
        key: holder
        for key, holder in silent.items()
        if holder in gone
        or key in dropped
        or _out_of_patience(group, machines[holder], beats, now, patient)
    }
    confirmed = gone.issuperset(lost.values())
    share = len(lost) / max(1, len(leases.all))
    if not confirmed and len(lost) >= limits.MASS_LOSS_MINIMUM and share > limits.MASS_LOSS_SHARE:
        inc(table.MASS_LOSSES_HELD)
        log.error("event=mass_loss_held group=%s attempts=%s", group.id, len(lost))
        return
    for key, holder in lost.items():
        if holder not in gone and key in dropped:
            cause = Cause.AGENT_STOPPED
        else:
            cause = _cause(machines.get(holder), gone)
        mark_attempt_lost(rt, group, key, holder, cause)


def _cause(machine: MachineRow | None, gone: set[str]) -> Cause:
    """A spot machine that its provider says is gone was reclaimed, whether anybody was told."""
    if machine is None:
        return Cause.MACHINE_LOST
    taken = machine.spot and machine.id in gone and machine.status != MACHINE_DOWN
    return Cause.SPOT_RECLAIMED if taken or machine.reclaim_at is not None else Cause.MACHINE_LOST


def _dropped(
    leases: Leases,
    silent: dict[str, str],
    beats: dict[str, float],
    now: float,
) -> set[str]:
    """Attempts whose holder lives and knows nothing of them, such as one that broke down while it
    claimed: its heartbeats come, and leave them out."""
    held = leases.holders
    left_out = {
        lease.attempt
        for lease in leases.overdue
        if leases.seen_ms.get(lease.holder, 0) - lease.expiry_ms > 1000 * limits.LEASE_S
    }
    without_lease = {
        key
        for key, holder in silent.items()
        if key not in held and now - beats.get(holder, 0.0) < limits.LEASE_S
    }
    return left_out | without_lease


def _gone(
    rt: Runtime, group: GroupRow, machines: dict[str, MachineRow], holders: set[str]
) -> set[str]:
    """Those of the holders that certainly work no more: the provider is asked for all at once."""
    there = {
        h: machines[h].handle
        for h in holders
        if h in machines and machines[h].status != MACHINE_DOWN
    }
    states = rt.providers[group.provider].observe(there) if there else {}
    return {h for h in holders if states.get(h, MachineState.GONE) is MachineState.GONE}


def _out_of_patience(
    group: GroupRow, machine: MachineRow, beats: dict[str, float], now: float, patient: bool
) -> bool:
    seen = max(beats.get(machine.id, 0.0), machine.last_seen_at or 0.0, machine.created_at)
    return not patient and now - seen > group.reconnect_s


def mark_attempt_lost(
    rt: Runtime, group: GroupRow, key: str, holder: str, cause: Cause = Cause.MACHINE_LOST
) -> None:
    """End an attempt whose machine is lost; queue the next one where the task wants that."""
    task_id, attempt = parse_attempt(key)
    ended = None
    with rt.store.write() as session:
        task = session.scalar(select(TaskRow).where(TaskRow.id == task_id).with_for_update())
        if task is not None and task.group_id == group.id and task.attempt == attempt:
            ended = end_attempt(
                session,
                task_id,
                attempt,
                # A claim whose first report never came: the task was taken all the same.
                _taken(session, task, holder),
                # Of an attempt that a restored backup knew of, what became of it is forgotten.
                task.resubmit or attempt < task.attempt_floor,
                cause,
                time.time(),
                losses=task.losses,
                machine_id=holder or None,
            )
    inc(table.LEASES_EXPIRED)
    log.warning("event=attempt_lost attempt=%s machine=%s applied=%s", key, holder, ended)
    rt.queue.revoke(group.id, key)
    if ended == Status.SUBMITTED:
        enqueue_task(rt, task_id)


def _taken(session: UnitOfWork, task: TaskRow, holder: str) -> Status:
    if task.status == Status.SUBMITTED:
        change_status(
            session,
            task.id,
            Status.STARTED,
            attempt=task.attempt,
            at=time.time(),
            machine_id=holder or None,
        )
        open_attempt(session, task.id, task.attempt, holder or None, time.time())
        return Status.STARTED
    return Status(task.status)


def _note_heartbeats(rt: Runtime, group: GroupRow) -> None:
    beats = rt.queue.reader.heartbeats(group.id)
    if not beats:
        return
    with rt.store.write() as session:
        session.connection().execute(
            update(MachineRow)
            .where(MachineRow.id == bindparam("machine"), MachineRow.group_id == group.id)
            .values(last_seen_at=bindparam("seen")),
            [{"machine": machine_id, "seen": seen} for machine_id, seen in beats.items()],
        )
