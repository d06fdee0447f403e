"""Attempts that several machines work on together: losing one of them ends the attempt."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.providers.base import MachineState
from scheduler.store.machine_state import MACHINE_DOWN
from scheduler.store.models import MachineRow
from simherd.contract import limits
from simherd.contract.cause import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.store.models import GroupRow
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

MPI = "mpi"


def mark_gangs_lost(
    rt: Runtime,
    group: GroupRow,
    now: float,
    patient: bool,
    lose: Callable[[str, str, Cause], None],
) -> None:
    """End the attempts of a group of which a machine is lost.

    Where the leader is left, it ends the attempt itself, and saves what there is to save.

    Args:
        parts: the scheduler's parts.
        group: the group.
        now: seconds since the epoch.
        patient: nobody is lost for being silent.
        lose: ends an attempt whose holder is gone: attempt, holder, cause.
    """
    gangs = rt.queue.reader.mpi_groups(group.id) if group.group_type == MPI else {}
    if not gangs:
        return
    names = {name for members in gangs.values() for name in members}
    with rt.store.read() as session:
        machines = {
            m.id: m for m in session.scalars(select(MachineRow).where(MachineRow.id.in_(names)))
        }
    up = {m.id: m.handle for m in machines.values() if m.status != MACHINE_DOWN}
    states = rt.providers[group.provider].observe(up) if up else {}
    gone = {n for n in names if states.get(n, MachineState.GONE) is MachineState.GONE}
    beats = rt.queue.reader.heartbeats(group.id)
    # One that was never heard of since Redis lost everything is not silent.
    silent = {n for n in names if not patient and now - beats.get(n, now) > limits.LEASE_S}
    for attempt, members in gangs.items():
        lost = next((n for n in members if n in gone), None)
        lost = lost or next((n for n in members[1:] if n in silent), None)
        if lost is None:
            continue
        machine = machines.get(lost)
        reclaimed = machine is not None and machine.spot and lost in gone
        cause = Cause.SPOT_RECLAIMED if reclaimed else Cause.MACHINE_LOST
        log.warning("event=gang_lost attempt=%s machine=%s cause=%s", attempt, lost, cause)
        if members[0] in gone:
            lose(attempt, members[0], cause)
            for member in members[1:]:
                rt.queue.stop(group.id, member, attempt, Cause.LEASE_LOST)
        else:
            name = machine.name if machine is not None else lost
            detail = f"Machine {name} of the MPI group was lost."
            rt.queue.stop(group.id, members[0], attempt, cause, detail=detail)
