"""The rows of attempts: where each ran, how it ended, and what of it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Float, String, case, exists, insert, literal, select, update

from scheduler.store.models import AttemptRow, GroupRow, MachineRow, TaskRow
from simherd.contract.cause import OUTCOMES, Cause

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def open_attempt(
    session: Session,
    task_id: str,
    attempt: int,
    machine_id: str | None,
    at: float,
    slots: object = 1,
) -> None:
    """Insert the row of an attempt that a machine has taken; repeating it changes nothing.

    `machine_id`: the machine that took it; `at`: when, seconds since the epoch; `slots`: by how
    many the machine's price is divided, as its executor reported it.
    """
    share = max(1, slots) if isinstance(slots, int) and not isinstance(slots, bool) else 1
    price = case((MachineRow.price_hour > 0, MachineRow.price_hour), else_=GroupRow.price_hour)
    is_there = exists().where(AttemptRow.task_id == task_id, AttemptRow.attempt == attempt)
    row = (
        select(
            literal(task_id),
            literal(attempt),
            literal(machine_id, String),
            literal(at, Float),
            literal({}, JSON),
            price / float(share),
        )
        .select_from(TaskRow)
        .join(GroupRow, GroupRow.id == TaskRow.group_id)
        .outerjoin(MachineRow, MachineRow.id == machine_id)
        .where(TaskRow.id == task_id, ~is_there)
    )
    columns = ["task_id", "attempt", "machine_id", "started_at", "saved", "price_hour"]
    session.execute(insert(AttemptRow).from_select(columns, row, include_defaults=False))


def close_attempt(
    session: Session, task_id: str, attempt: int, at: float, cause: Cause, detail: str | None = None
) -> None:
    """Store the end of an attempt, if it was taken; `detail` defaults to the cause's sentence."""
    session.execute(
        update(AttemptRow)
        .where(
            AttemptRow.task_id == task_id,
            AttemptRow.attempt == attempt,
            AttemptRow.ended_at.is_(None),
        )
        .values(ended_at=at, cause=cause.value, detail=detail or OUTCOMES[cause].sentence)
        .execution_options(synchronize_session=False)
    )


def add_saved(session: Session, task_id: str, attempt: int, **saved: Any) -> None:
    """Add to the record of what is stored of an attempt."""
    is_this = (AttemptRow.task_id == task_id, AttemptRow.attempt == attempt)
    before = session.scalar(select(AttemptRow.saved).where(*is_this))
    if before is not None:
        session.execute(
            update(AttemptRow)
            .where(*is_this)
            .values(saved={**before, **saved})
            .execution_options(synchronize_session=False)
        )
