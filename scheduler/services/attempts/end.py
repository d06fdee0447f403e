"""The end of an attempt in SQL: load the facts, decide, apply if the attempt is still current."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from scheduler.domain.ending import CostSoFar, TaskSnapshot, decide
from scheduler.metrics import table
from scheduler.services.attempts.rows import close_attempt
from scheduler.services.billing.costs import limit_sentence, spent
from scheduler.store.models import StatusChange, TaskOperation, TaskRow
from scheduler.store.transitions import change_status
from simherd.contract.cause import OUTCOMES
from simherd.contract.lifecycle import Status

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.domain.ending import AttemptEnd
    from scheduler.store.unit_of_work import UnitOfWork


def end_attempt(
    session: UnitOfWork,
    task_id: str,
    attempt: int,
    end: AttemptEnd,
    *,
    resubmit: bool | None = None,
    **columns: Any,
) -> Status | None:
    """End a task's current attempt, see `scheduler.domain.ending.decide`.

    A task that is back in the queue has the next attempt number, and must be enqueued once the
    transaction is committed.

    `end`: why, when and where. `resubmit`: whether the task gets another attempt if its machine was
    lost; None: as it wants. `columns`: further columns of the task that change with it.

    Returns the task's new status, or None when the change was refused.
    """
    ending = decide(_load(session, task_id, attempt, end.at, resubmit), end)
    applied = change_status(
        session,
        task_id,
        ending.status,
        attempt=attempt,
        at=end.at,
        description=ending.description,
        machine_id=end.machine_id,
        **{**columns, **ending.columns},
    )
    if not applied:
        return None
    if OUTCOMES[end.cause].resubmit:
        session.inc_on_commit(table.ATTEMPTS_LOST, end.cause.value)
    close_attempt(session, task_id, attempt, end.at, end.cause, ending.attempt_detail)
    session.execute(
        update(TaskOperation)
        .where(
            TaskOperation.task_id == task_id,
            TaskOperation.attempt == attempt,
            TaskOperation.ended_at.is_(None),
        )
        .values(status="FAILED", ended_at=end.at)
        .execution_options(synchronize_session=False)
    )
    return ending.status


def _load(
    session: Session, task_id: str, attempt: int, at: float, resubmit: bool | None
) -> TaskSnapshot:
    row = session.execute(
        select(
            TaskRow.status,
            TaskRow.resubmit,
            TaskRow.attempt_floor,
            TaskRow.attempts_before,
            TaskRow.losses,
            TaskRow.max_cost,
        ).where(TaskRow.id == task_id)
    ).one()
    status, cost, kill_requested_at = Status(row.status), None, None
    if row.max_cost is not None:
        cost_so_far = spent(session, task_id, at)
        sentence = limit_sentence(cost_so_far, row.max_cost)
        cost = CostSoFar(cost_so_far, row.max_cost, sentence)
    if status is Status.PENDING_KILL:
        kill_requested_at = session.scalar(
            select(func.max(StatusChange.at)).where(
                StatusChange.task_id == task_id, StatusChange.status == Status.PENDING_KILL.value
            )
        )
    return TaskSnapshot(
        status=status,
        attempt=attempt,
        resubmit=row.resubmit if resubmit is None else resubmit,
        attempt_floor=row.attempt_floor,
        attempts_before=row.attempts_before,
        losses=row.losses,
        kill_requested_at=kill_requested_at,
        cost=cost,
    )
