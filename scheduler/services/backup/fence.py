"""Changes to restored rows: SQL has gone back in time, and machines and storage have not.

Since the backup, machines may have run attempts that are unknown or waiting in it, and stored their
outputs. Their attempt numbers are not used again; see `attempt_numbers`.

A task that waited waits on, under a new number. One that ran keeps the attempt it had: an executor
that still runs it presents it and carries on, sending again what SQL has forgotten. If none does,
the sweep queues the task again. Every other attempt that machines still run is not current, and is
stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, insert, literal, select, update

from scheduler.domain.attempt_numbers import floor_at
from scheduler.store.models import GroupRow, StatusChange, TaskRow
from simherd.contract.lifecycle import TERMINAL, Status

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_QUEUED_AGAIN = "The server was restored from a backup. The task waits as attempt {}."


def post_restore_fence(session: Session, now: float) -> int:
    """Fence off attempts of the time after the backup: their reports must not count as current.

    `now`: seconds since the epoch.

    Returns how many tasks go on.
    """
    highest = session.execute(
        select(func.max(TaskRow.attempt), func.max(TaskRow.attempt_floor))
    ).one()
    floor = floor_at(now, max(number or 0 for number in highest))
    going_on = TaskRow.status.not_in([status.value for status in TERMINAL])
    ordinal = case(
        (
            (TaskRow.attempt_floor > 0) & (TaskRow.attempt >= TaskRow.attempt_floor),
            TaskRow.attempts_before + 1 + TaskRow.attempt - TaskRow.attempt_floor,
        ),
        else_=TaskRow.attempt,
    )
    changed: Any = session.execute(
        update(TaskRow)
        .where(going_on)
        .values(attempts_before=ordinal, attempt_floor=floor)
        .execution_options(synchronize_session=False)
    )
    _number_anew(session, floor, now)
    # The streams may be in another Redis now. A report that is read twice is recorded once.
    session.execute(update(GroupRow).values(event_cursor="0-0"))
    return int(changed.rowcount)


def _number_anew(session: Session, floor: int, now: float) -> None:
    """Give the tasks that wait in a queue a new attempt number, and say so in their history."""
    waits = TaskRow.status == Status.SUBMITTED.value
    waiting = select(TaskRow.id).where(waits)
    session.execute(
        update(StatusChange)
        .where(StatusChange.task_id.in_(waiting), StatusChange.ended_at.is_(None))
        .values(ended_at=now)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(TaskRow)
        .where(waits)
        .values(
            attempt=floor, attempts_before=TaskRow.attempts_before - 1, last_event=0, queued_at=None
        )
        .execution_options(synchronize_session=False)
    )
    columns = ["task_id", "attempt", "status", "at", "description"]
    said = _QUEUED_AGAIN.format(floor)
    rows = select(TaskRow.id, TaskRow.attempt, TaskRow.status, literal(now), literal(said)).where(
        waits
    )
    session.execute(insert(StatusChange).from_select(columns, rows, include_defaults=False))
