"""The one place where the status of a task, a machine or a machine group changes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from scheduler.domain.group_status import GROUP_TABLE, GroupStatus
from scheduler.domain.machine_status import MACHINE_TABLE, MachineStatus
from scheduler.domain.status_table import statuses_before
from scheduler.store.models import GroupRow, MachineRow, RefusedChange, StatusChange, TaskRow
from scheduler.store.outbox import task_changed
from scheduler.store.unit_of_work import StatusOutcome
from simherd.contract.lifecycle import TABLE, TERMINAL, Status, sources_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.store.unit_of_work import UnitOfWork

log = logging.getLogger(__name__)

#: The columns that say when a status began.
_MACHINE_TIMES = {MachineStatus.DOWN: "terminated_at"}
_GROUP_TIMES = {
    GroupStatus.STARTING: "started_at",
    GroupStatus.SHUTTING_DOWN: "shutting_down_at",
    GroupStatus.TERMINATED: "terminated_at",
}


def change_status(
    session: UnitOfWork,
    task_id: str,
    to: Status,
    *,
    attempt: int,
    at: float,
    description: str | None = None,
    machine_id: str | None = None,
    only_from: frozenset[Status] | None = None,
    next_attempt: int | None = None,
    **values: Any,
) -> bool:
    """Change a task's status if the lifecycle and the attempt number allow it.

    Args:
        attempt: the attempt the change speaks for; must be the task's current one.
        at: when it happened, seconds since the epoch.
        description: a sentence for people; default: the status' explanation.
        machine_id: the machine it happened on; the task's own from `started` on.
        only_from: narrows the statuses from which the change is allowed.
        next_attempt: the attempt that begins with this change, when one does.
        values: further columns of the task that change with it.

    Returns whether it was applied. A refused change is counted and leaves everything as it was.
    """
    sources = sources_of(to) if only_from is None else sources_of(to) & only_from
    if to in TERMINAL:
        values.setdefault("end_time", at)
    if to is Status.STARTED:
        values["machine_id"] = machine_id
    if next_attempt is not None:
        values |= {"attempt": next_attempt, "last_event": 0, "queued_at": None}
    watched = session.scalar(
        update(TaskRow)
        .where(TaskRow.id == task_id, TaskRow.attempt == attempt, TaskRow.status.in_(sources))
        .values(status=to.value, **values)
        .returning(TaskRow.watched)
        .execution_options(synchronize_session=False)
    )
    if watched is None:
        session.add(RefusedChange(task_id=task_id, attempt=attempt, status=to.value, at=at))
        session.changes.append(StatusOutcome(task_id, to, "", is_refused=True))
        log.info("event=change_refused task=%s attempt=%s status=%s", task_id, attempt, to)
        return False
    session.flush()  # the entry before may have been made in this very transaction
    session.execute(
        update(StatusChange)
        .where(StatusChange.task_id == task_id, StatusChange.ended_at.is_(None))
        .values(ended_at=at)
        .execution_options(synchronize_session=False)
    )
    add_history(session, task_id, to, next_attempt or attempt, at, description, machine_id)
    session.changes.append(StatusOutcome(task_id, to, values.get("cause") or "", is_refused=False))
    if watched:
        task_changed(session, task_id, to, attempt, at)
    return True


def add_history(
    session: Session,
    task_id: str,
    status: Status,
    attempt: int,
    at: float,
    description: str | None = None,
    machine_id: str | None = None,
) -> None:
    """Append to a task's history."""
    session.add(
        StatusChange(
            task_id=task_id,
            attempt=attempt,
            status=status.value,
            at=at,
            ended_at=at if status in TERMINAL else None,
            description=description or TABLE[status].explanation,
            machine_id=machine_id,
        )
    )


def change_machine(
    session: Session, machine_id: str, to: MachineStatus, *, at: float, **values: Any
) -> bool:
    """Change a machine's status if its table allows it.

    `at`: when it happened, seconds since the epoch; of a termination this is stored. `values`:
    further columns that change with it, such as `drain_reason`.

    Returns whether it was applied. A refused change leaves everything as it was.
    """
    if to in _MACHINE_TIMES:
        values[_MACHINE_TIMES[to]] = at
    return _change(session, MachineRow, machine_id, statuses_before(MACHINE_TABLE, to), to, values)


def change_group(
    session: Session, group_id: str, to: GroupStatus, *, at: float, **values: Any
) -> bool:
    """Change a machine group's status if its table allows it; arguments as `change_machine`."""
    if to in _GROUP_TIMES:
        values[_GROUP_TIMES[to]] = at
    return _change(session, GroupRow, group_id, statuses_before(GROUP_TABLE, to), to, values)


def _change(
    session: Session,
    row: type[MachineRow | GroupRow],
    row_id: str,
    sources: frozenset[Any],
    to: MachineStatus | GroupStatus,
    values: dict[str, Any],
) -> bool:
    changed = session.scalar(
        update(row)
        .where(row.id == row_id, row.status.in_([status.value for status in sources]))
        .values(status=to.value, **values)
        .returning(row.id)
        .execution_options(synchronize_session=False)
    )
    if changed is None:
        log.info("event=change_refused %s=%s status=%s", row.__tablename__, row_id, to)
    return changed is not None
