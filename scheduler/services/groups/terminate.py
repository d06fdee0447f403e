"""Terminate machine groups: their limits, their tasks, their machines."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from scheduler.domain.group_status import ACCEPTING, ENDING, GroupStatus
from scheduler.domain.machine_status import MachineStatus
from scheduler.services.attempts.rows import close_attempt
from scheduler.services.errors import Conflict
from scheduler.services.machines.access import revoke
from scheduler.services.machines.provision import machines_of
from scheduler.store.machine_state import MACHINE_DRAINED, MACHINE_UP
from scheduler.store.models import GroupRow, MachineRow, TaskRow
from scheduler.store.outbox import group_changed
from scheduler.store.transitions import change_group, change_machine, change_status
from simherd.contract import limits
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.cause import OUTCOMES, Cause
from simherd.contract.lifecycle import HELD, TERMINAL, Status
from simherd.contract.notifications import NotificationTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: Seconds after which the machines of a group that is shut down are stopped by force.
_FORCE_AFTER_S = limits.AGENT_STOP_S + 5
#: Tasks that are ended in one transaction, and seconds after which the others wait.
_END_AT_A_TIME, _END_TASKS_S = 500, 20.0
#: Seconds after which a group whose machines still stand has failed to shut down.
_FAILED_AFTER_S = 600.0


def request_termination(rt: Runtime, group: GroupRow, cause: Cause) -> None:
    """Mark a group for shutting down; `shut_down_group` does the rest.
    Raises Conflict: it is being shut down or is terminated already."""
    now = time.time()
    with rt.store.write() as session:
        is_ending = change_group(
            session, group.id, GroupStatus.SHUTTING_DOWN, at=now, end_cause=cause.value
        )
        if is_ending and cause is Cause.GROUP_TIME_LIMIT:
            group_changed(session, group.id, NotificationTrigger.GROUP_TIME_LIMIT, now)
    if not is_ending:
        raise Conflict(f"Machine group {group.name!r} is {group.status} already.")


def shut_down_group(rt: Runtime, group_id: str, seconds: float = _END_TASKS_S) -> bool:
    """End a group's tasks and stop its machines; return whether all of them are gone.

    Machines are asked to stop; later calls force those that have not stopped.

    `seconds`: for how long tasks are ended; the others wait for the next call.
    """
    with rt.store.read() as session:
        group = session.get(GroupRow, group_id)
        machines = machines_of(session, group_id, MACHINE_UP, MACHINE_DRAINED)
    if group is None or group.status not in ENDING:
        return True
    ended = end_tasks(rt, group, Cause(group.end_cause or Cause.GROUP_TERMINATED), seconds)
    gone, trouble = _stop_machines(rt, group, machines)
    revoke(rt, group.id, [machine.id for machine in gone])
    over = ended and len(gone) == len(machines)
    if over:
        # Before the status changes: a terminated group is not swept again.
        for machine in machines:
            rt.queue.forget_machine(group_id, machine.id)
        rt.queue.forget_group(group_id)
    if not _record_gone(rt, group, gone, is_all=over, trouble=trouble):
        return False
    log.info("event=group_terminated group=%s", group_id)
    return True


def _stop_machines(
    rt: Runtime, group: GroupRow, machines: list[MachineRow]
) -> tuple[list[MachineRow], str | None]:
    """Stop machines; return those that are gone, and the provider's error if there was one."""
    provider, gone, trouble = rt.providers[group.provider], [], None
    force = time.time() - (group.shutting_down_at or 0) > _FORCE_AFTER_S
    for machine in machines:
        try:
            if provider.by_hand:
                ended = force or _has_left(rt, group, machine)
            else:
                ended = machine.launched_at is None or provider.terminate(
                    machine.id, machine.handle, force=force
                )
            if ended:
                gone.append(machine)
        except Exception as error:
            # The others are stopped all the same, since they cost money.
            log.exception("event=terminate_failed group=%s machine=%s", group.id, machine.id)
            trouble = f"Machine {machine.name} could not be terminated: {error}"
    return gone, trouble


def _has_left(rt: Runtime, group: GroupRow, machine: MachineRow) -> bool:
    """Send a machine that its user has started the order to leave; return whether it has."""
    rt.queue.leave(group.id, machine.id)
    seen = rt.queue.reader.heartbeats(group.id).get(machine.id, 0.0)
    return time.time() - seen > 2 * limits.HEARTBEAT_S


def _record_gone(
    rt: Runtime, group: GroupRow, gone: list[MachineRow], *, is_all: bool, trouble: str | None
) -> bool:
    """Mark machines as terminated, and the group if no task came to it meanwhile.
    Returns whether the group is terminated."""
    now = time.time()
    with rt.store.write() as session:
        for machine in gone:
            change_machine(session, machine.id, MachineStatus.DOWN, at=now)
        row = session.get_one(GroupRow, group.id, with_for_update=True)
        over = is_all and session.scalar(_open_tasks(group.id).limit(1)) is None
        row.status_detail = None if over else trouble
        if over:
            if change_group(session, group.id, GroupStatus.TERMINATED, at=now):
                group_changed(session, group.id, NotificationTrigger.GROUP_TERMINATED, now)
        elif now - (group.shutting_down_at or now) > _FAILED_AFTER_S:
            # Stopping them is tried again all the same, since they cost money.
            row.status_detail = trouble or "Machines still run after they were terminated."
            if row.status == GroupStatus.SHUTTING_DOWN:
                change_group(session, group.id, GroupStatus.SHUTDOWN_FAILED, at=now)
    return over


def _open_tasks(group_id: str) -> Select[int]:
    return select(TaskRow.seq).where(TaskRow.group_id == group_id, TaskRow.end_time.is_(None))


def end_tasks(rt: Runtime, group: GroupRow, cause: Cause, seconds: float = _END_TASKS_S) -> bool:
    """End the tasks of a group that is shut down; return whether all have ended.
    `seconds`: how long this takes at the most; the others wait for the next call."""
    until = time.monotonic() + seconds
    while tasks := _next_tasks(rt, group.id):
        if not _end_batch(rt, group, tasks, cause):
            # They have changed meanwhile; the next call reads them again.
            log.warning("event=tasks_not_ended group=%s tasks=%s", group.id, len(tasks))
            return False
        if time.monotonic() > until:
            return False
    return True


def _next_tasks(rt: Runtime, group_id: str) -> Sequence[TaskRow]:
    """Return all tasks that machines of the group hold, or else some of those in the queue."""
    mine = select(TaskRow).where(TaskRow.group_id == group_id)
    with rt.store.read() as session:
        active = TaskRow.status.not_in([s.value for s in {*TERMINAL, Status.SUBMITTED}])
        waiting = mine.where(TaskRow.status == Status.SUBMITTED.value).limit(_END_AT_A_TIME)
        return session.scalars(mine.where(active)).all() or session.scalars(waiting).all()


def _end_batch(rt: Runtime, group: GroupRow, tasks: Sequence[TaskRow], cause: Cause) -> bool:
    """End these tasks; return whether any was ended."""
    now, ended = time.time(), []
    with rt.store.write() as session:
        for task in tasks:
            final = OUTCOMES[cause].status if task.status in HELD else Status.ZOMBIE
            if task.status == Status.PENDING_KILL:
                final = Status.KILLED
            if change_status(
                session, task.id, final, attempt=task.attempt, at=now, cause=cause.value
            ):
                close_attempt(session, task.id, task.attempt, now, cause)
                ended.append(task)
    for task in ended:
        if task.attempt:
            key = attempt_key(task.id, task.attempt)
            rt.queue.withdraw(group.id, key)
            if task.status in HELD:
                rt.queue.revoke(group.id, key)
    return bool(ended)


def overdue_groups(rt: Runtime, server: str, now: float) -> list[tuple[GroupRow, Cause]]:
    """Return a Redis server's groups whose time limit or idle limit has passed, and which."""
    due: list[tuple[GroupRow, Cause]] = []
    with rt.store.read() as session:
        groups = session.scalars(
            select(GroupRow).where(GroupRow.status.in_(ACCEPTING), GroupRow.redis_server == server)
        ).all()
        for group in groups:
            if group.auto_terminate_at is not None and now >= group.auto_terminate_at:
                due.append((group, Cause.GROUP_TIME_LIMIT))
            elif _is_idle(session, group, now):
                due.append((group, Cause.GROUP_IDLE))
    return due


def _is_idle(session: Session, group: GroupRow, now: float) -> bool:
    if group.max_idle_s is None or group.started_at is None:
        return False
    if session.scalar(_open_tasks(group.id).limit(1)) is not None:
        return False
    last = session.scalar(select(func.max(TaskRow.end_time)).where(TaskRow.group_id == group.id))
    return now - max(last or 0, group.started_at) >= group.max_idle_s
