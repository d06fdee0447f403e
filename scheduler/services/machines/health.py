"""Machines on which task after task fails through the machine's fault."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from scheduler.domain.losses import is_common_failure
from scheduler.domain.machine_status import MachineStatus
from scheduler.services.machines.access import revoke
from scheduler.services.machines.busy import busy_machines
from scheduler.store.machine_state import MACHINE_DRAINED, MACHINE_UP
from scheduler.store.models import GroupRow, MachineRow
from scheduler.store.transitions import change_machine
from simherd.contract import limits
from simherd.contract.cause import OUTCOMES, Cause

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime

#: Different tasks in a row that must fail through a machine's own fault for it to be drained.
BAD_MACHINE_FAILURES = 3

log = logging.getLogger(__name__)


def note_end(session: Session, group_id: str, machine_id: str, task_id: str, cause: Cause) -> bool:
    """Record how an attempt ended on a machine; return whether the machine is drained now.

    A machine of another group than the task's is left alone, as a report can name any machine.
    A machine is drained when `BAD_MACHINE_FAILURES` different tasks in a row failed there
    through its fault. When every other machine of its group has begun to fail, too, the cause is
    probably here (the storage, the network), and all of them stay.
    """
    if not OUTCOMES[cause].machine:
        session.execute(
            update(MachineRow)
            .where(
                MachineRow.id == machine_id,
                MachineRow.group_id == group_id,
                MachineRow.failures != "",
            )
            .values(failures="")
        )
        return False
    of_group = (MachineRow.id == machine_id, MachineRow.group_id == group_id)
    machine = session.scalar(select(MachineRow).where(*of_group).with_for_update())
    if machine is None:
        return False
    tasks = machine.failures.split()
    if task_id not in tasks:
        tasks.append(task_id)
    machine.failures = " ".join(tasks[-BAD_MACHINE_FAILURES:])
    if len(tasks) < BAD_MACHINE_FAILURES or machine.status != MACHINE_UP:
        return False
    others = select(func.count()).where(
        MachineRow.group_id == machine.group_id,
        MachineRow.id != machine_id,
        MachineRow.status == MACHINE_UP,
    )
    all_others = session.scalar(others) or 0
    healthy = session.scalar(others.where(MachineRow.failures == "")) or 0
    if is_common_failure(all_others, healthy):
        log.error("event=bad_machine_held machine=%s failures=%s", machine_id, machine.failures)
        return False
    reason = f"{len(tasks)} tasks in a row failed here ({cause}): {', '.join(tasks)}."
    log.error("event=machine_drained machine=%s reason=%s", machine_id, reason)
    return change_machine(
        session, machine_id, MachineStatus.DRAINED, at=time.time(), drain_reason=reason
    )


def retire_drained(rt: Runtime, group: GroupRow) -> None:
    """Terminate the drained machines that have nothing left to do; they stay listed."""
    with rt.store.read() as session:
        drained = session.scalars(
            select(MachineRow).where(
                MachineRow.group_id == group.id,
                MachineRow.status == MACHINE_DRAINED,
                MachineRow.terminated_at.is_(None),
            )
        ).all()
    if not drained:
        return
    now, facts = time.time(), rt.queue.reader.facts(group.id, [m.id for m in drained])
    busy = busy_machines(rt, group)
    for machine in drained:
        is_alive = now - (machine.last_seen_at or 0) < limits.LEASE_S
        # One that has not received the order may claim something at this moment.
        if machine.id in busy or (is_alive and not facts.get(machine.id, {}).get("draining")):
            # The order is sent again, since it may have been lost with Redis.
            rt.queue.drain(group.id, machine.id)
            continue
        if rt.providers[group.provider].terminate(machine.id, machine.handle, force=False):
            with rt.store.write() as session:
                change_machine(session, machine.id, MachineStatus.DOWN, at=time.time())
            revoke(rt, group.id, [machine.id])
