"""The attempts whose machine is lost: those of one machine, and those of an MPI group.

Facts come from SQL, Redis and the provider; `scheduler.domain.losses` decides.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import or_, select

from scheduler.domain.ending import AttemptEnd
from scheduler.domain.group_status import MPI
from scheduler.domain.losses import (
    UNKNOWN_MACHINE,
    MachineEvidence,
    Suspect,
    find_losses,
    is_left_out,
)
from scheduler.metrics import table
from scheduler.metrics.instruments import inc
from scheduler.providers.base import MachineState
from scheduler.services.attempts.end import end_attempt
from scheduler.services.attempts.rows import open_attempt
from scheduler.services.tasks.enqueue import enqueue_task
from scheduler.store.machine_state import MACHINE_DOWN
from scheduler.store.models import MachineRow, TaskRow
from scheduler.store.transitions import change_status
from simherd.contract import limits
from simherd.contract.attempt_spec import attempt_key, parse_attempt
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import HELD, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from scheduler.domain.losses import GracePeriod
    from scheduler.queue.group_reader import Leases
    from scheduler.store.models import GroupRow
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: Seconds after which the row of a terminated machine is not read any more.
_LONG_AGO_S = 86400.0


def expire_leases(rt: Runtime, group: GroupRow, now: float, grace: GracePeriod | None) -> None:
    """End the attempts whose machine is gone, or has been silent for too long.

    `now`: seconds since the epoch. `grace`: the grace period that holds now; in it no silent
    machine is lost.
    """
    leases, rows = rt.queue.reader.leases(group.id), _machine_rows(rt, group, now)
    holders = _suspected_holders(rt, group, leases, rows)
    seen = {machine: ms / 1000 for machine, ms in leases.seen_ms.items()}
    ends = {lease.attempt: lease.expiry_ms / 1000 for lease in leases.all}
    machines = _observe(rt, group, rows, set(holders.values()), seen)
    suspects = [
        Suspect(
            key, holder, machines[holder], is_left_out(seen.get(holder, 0.0), ends.get(key), now)
        )
        for key, holder in holders.items()
    ]
    for suspect in _lost(group, suspects, len(leases.all), now, group.reconnect_s, grace):
        mark_attempt_lost(rt, group, suspect.attempt, suspect.machine_id, suspect.cause)


def mark_gangs_lost(rt: Runtime, group: GroupRow, now: float, grace: GracePeriod | None) -> None:
    """End the attempts of an MPI group that have lost one of their machines.

    A leader that is left ends its attempt itself, and saves what there is to save. Arguments as of
    `expire_leases`.
    """
    gangs = rt.queue.reader.mpi_groups(group.id) if group.group_type == MPI else {}
    if not gangs:
        return
    names = {name for members in gangs.values() for name in members}
    heartbeats = rt.queue.reader.heartbeats(group.id)
    # A machine that has sent no heartbeat since Redis lost its data is not silent.
    seen = {name: heartbeats.get(name, now) for name in names}
    # The silence of a leader is judged by its lease, as that of a machine that works alone.
    seen |= {members[0]: now for members in gangs.values()}
    rows = _machine_rows(rt, group, now)
    machines = _observe(rt, group, rows, names, seen)
    suspects = [
        Suspect(attempt, name, machines[name])
        for attempt, members in gangs.items()
        for name in members
    ]
    first_losses: dict[str, Suspect] = {}
    for suspect in _lost(group, suspects, len(suspects), now, limits.LEASE_S, grace):
        first_losses.setdefault(suspect.attempt, suspect)
    for attempt, suspect in first_losses.items():
        leader, *others = gangs[attempt]
        machine_id, cause = suspect.machine_id, suspect.cause
        log.warning("event=gang_lost attempt=%s machine=%s cause=%s", attempt, machine_id, cause)
        if machines[leader].is_gone:
            mark_attempt_lost(rt, group, attempt, leader, cause)
            for member in others:
                rt.queue.stop(group.id, member, attempt, Cause.LEASE_LOST)
        else:
            name = rows[machine_id].name if machine_id in rows else machine_id
            detail = f"Machine {name} of the MPI group was lost."
            rt.queue.stop(group.id, leader, attempt, cause, detail=detail)


def _lost(
    group: GroupRow,
    suspects: list[Suspect],
    total: int,
    now: float,
    silent_s: float,
    grace: GracePeriod | None,
) -> list[Suspect]:
    losses = find_losses(suspects, total, now=now, silent_s=silent_s, grace=grace)
    if losses.held:
        inc(table.MASS_LOSSES_HELD)
        log.error("event=mass_loss_held group=%s attempts=%s", group.id, len(losses.held))
    return losses.lost


def _machine_rows(rt: Runtime, group: GroupRow, now: float) -> dict[str, MachineRow]:
    with rt.store.read() as session:
        rows = session.scalars(
            select(MachineRow).where(
                MachineRow.group_id == group.id,
                or_(
                    MachineRow.terminated_at.is_(None), MachineRow.terminated_at > now - _LONG_AGO_S
                ),
            )
        )
        return {row.id: row for row in rows}


def _suspected_holders(
    rt: Runtime, group: GroupRow, leases: Leases, rows: Mapping[str, MachineRow]
) -> dict[str, str]:
    """Return attempt → machine, where the lease ran out or is missing, or the machine is down."""
    with rt.store.read() as session:
        running = session.execute(
            select(TaskRow.id, TaskRow.attempt, TaskRow.machine_id).where(
                TaskRow.group_id == group.id, TaskRow.status.in_([s.value for s in HELD])
            )
        ).all()
    leased = leases.holders
    suspected = {lease.attempt: lease.holder for lease in leases.overdue}
    for task_id, attempt, machine_id in running:
        key = attempt_key(task_id, attempt)
        if key not in leased and machine_id:
            suspected.setdefault(key, machine_id)
    for key, holder in leased.items():
        if holder in rows and rows[holder].status == MACHINE_DOWN:
            suspected.setdefault(key, holder)
    return suspected


def _observe(
    rt: Runtime,
    group: GroupRow,
    rows: Mapping[str, MachineRow],
    ids: Set[str],
    seen: Mapping[str, float],
) -> dict[str, MachineEvidence]:
    """Return what is known about some machines; one request asks the provider for all of them."""
    handles = {i: rows[i].handle for i in ids if i in rows and rows[i].status != MACHINE_DOWN}
    states = rt.providers[group.provider].observe(handles) if handles else {}
    machines = dict.fromkeys(ids, UNKNOWN_MACHINE)
    for i in ids & rows.keys():
        row = rows[i]
        machines[i] = MachineEvidence(
            seen_at=max(seen.get(i, 0.0), row.last_seen_at or 0.0, row.created_at),
            is_down=i not in handles,
            is_missing=i in handles and states.get(i, MachineState.GONE) is MachineState.GONE,
            is_spot=row.spot,
            is_reclaimed=row.reclaim_at is not None,
        )
    return machines


def mark_attempt_lost(
    rt: Runtime, group: GroupRow, key: str, machine_id: str, cause: Cause
) -> None:
    """End an attempt whose machine is lost; queue the next one where the task wants that."""
    task_id, attempt = parse_attempt(key)
    status, now = None, time.time()
    with rt.store.write() as session:
        task = session.scalar(select(TaskRow).where(TaskRow.id == task_id).with_for_update())
        if task is not None and task.group_id == group.id and task.attempt == attempt:
            if task.status == Status.SUBMITTED:
                # Its first report never came, and the machine had taken it all the same.
                holder = machine_id or None
                change_status(
                    session, task_id, Status.STARTED, attempt=attempt, at=now, machine_id=holder
                )
                open_attempt(session, task_id, attempt, holder, now)
            status = end_attempt(
                session,
                task_id,
                attempt,
                AttemptEnd(cause, now, machine_id or None),
                # What became of an attempt from before a restore is not known.
                resubmit=task.resubmit or attempt < task.attempt_floor,
            )
    inc(table.LEASES_EXPIRED)
    log.warning("event=attempt_lost attempt=%s machine=%s applied=%s", key, machine_id, status)
    rt.queue.revoke(group.id, key)
    if status == Status.SUBMITTED:
        enqueue_task(rt, task_id)
