"""How an attempt's end changes its task: the final status, or the queue again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from scheduler.domain.attempt_numbers import next_number, ordinal
from scheduler.metrics import table
from scheduler.services.attempts.rows import close_attempt
from scheduler.services.billing.costs import limit_sentence, over_limit
from scheduler.store.models import StatusChange, TaskOperation, TaskRow
from scheduler.store.transitions import change_status
from simherd.contract import limits
from simherd.contract.cause import OUTCOMES, Cause
from simherd.contract.lifecycle import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from scheduler.store.unit_of_work import UnitOfWork

#: A lost machine: attempt, machine_id, at, detail.
Loss = dict[str, Any]


def end_attempt(
    session: UnitOfWork,
    task_id: str,
    attempt: int,
    status: Status,
    resubmit: bool,
    cause: Cause,
    at: float,
    *,
    losses: Sequence[Loss] = (),
    detail: str | None = None,
    exit_code: int | None = None,
    machine_id: str | None = None,
    **values: Any,
) -> Status | None:
    """End a task's current attempt.

    A task that is being killed ends killed, whatever its attempt ended with: the kill came
    first. A task that is back in the queue has the next attempt number, and must be enqueued
    once the transaction is through.

    Args:
        session: the transaction it is part of.
        task_id: which task.
        attempt: the attempt that ended.
        status: the task's status now.
        resubmit: whether the task wants another attempt when this one's machine is lost.
        cause: why it ended.
        at: when, seconds since the epoch.
        losses: the machines that were lost while they held the task before.
        detail: a sentence for people; default: the cause's own.
        exit_code: of the last command, where there is one.
        machine_id: where it ended.
        values: further columns of the task that change with it.

    Returns:
        The task's new status, or None when the change was refused.
    """
    outcome = OUTCOMES[cause]
    floor, before = _numbers(session, task_id)
    if cause is Cause.COST_LIMIT and detail is None:
        detail = limit_sentence(session, task_id, at)
    sentence = of_attempt = detail or outcome.sentence
    over = over_limit(session, task_id, at) if outcome.resubmit and resubmit else None
    if cause is Cause.MACHINE_LOST:
        losses = [*losses, _loss(attempt, machine_id, at, sentence)]
        values["losses"] = losses
    made, following = ordinal(attempt, floor, before), next_number(attempt, floor)
    poison = len(losses) >= limits.MAX_LOSSES
    if status == Status.PENDING_KILL:
        to = Status.KILLED
        values |= {"cause": Cause.KILLED_BY_USER.value}
        described = _killed(session, task_id, at)
    elif over is not None:
        to, described = OUTCOMES[Cause.COST_LIMIT].status, over
        values |= {
            "cause": Cause.COST_LIMIT.value,
            "exit_code": exit_code,
            "error_detail": over,
        }
    elif outcome.resubmit and resubmit and not poison and made < limits.MAX_ATTEMPTS:
        to = Status.SUBMITTED
        described = f"{sentence} Queued again as attempt {following}."
        values |= {
            "next_attempt": following,
            "executer": None,
            "start_time": None,
            "computation_start_time": None,
            "computation_end_time": None,
        }
    else:
        if resubmit and poison:
            sentence = _evidence(losses)
        to, described = outcome.status, sentence
        values |= {
            "cause": cause.value,
            "exit_code": exit_code,
            "error_detail": None if cause is Cause.COMPLETED else sentence,
        }
    applied = change_status(
        session,
        task_id,
        to,
        attempt=attempt,
        at=at,
        description=described,
        machine_id=machine_id,
        **values,
    )
    if applied:
        if outcome.resubmit:
            session.inc_on_commit(table.ATTEMPTS_LOST, cause.value)
        close_attempt(session, task_id, attempt, at, cause, of_attempt)
        session.execute(
            update(TaskOperation)
            .where(
                TaskOperation.task_id == task_id,
                TaskOperation.attempt == attempt,
                TaskOperation.ended_at.is_(None),
            )
            .values(status="FAILED", ended_at=at)
            .execution_options(synchronize_session=False)
        )
    return to if applied else None


def _numbers(session: Session, task_id: str) -> tuple[int, int]:
    """A task's `attempt_floor` and `attempts_before`."""
    wanted = select(TaskRow.attempt_floor, TaskRow.attempts_before).where(TaskRow.id == task_id)
    floor, before = session.execute(wanted).one()
    return floor, before


def _killed(session: Session, task_id: str, at: float) -> str:
    asked = session.scalar(
        select(func.max(StatusChange.at)).where(
            StatusChange.task_id == task_id, StatusChange.status == Status.PENDING_KILL.value
        )
    )
    took = max(0.0, at - (asked or at))
    return f"The task was killed at the user's request, {took:.1f} s after it."


def _loss(attempt: int, machine_id: str | None, at: float, detail: str) -> Loss:
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    return {"attempt": attempt, "machine_id": machine_id, "at": when, "detail": detail}


def _evidence(losses: Sequence[Loss]) -> str:
    """Why a task that wants another attempt gets none."""
    lines = [f"attempt {x['attempt']} on {x['machine_id']} at {x['at']}" for x in losses]
    return (
        f"The task lost its machine {len(losses)} times ({'; '.join(lines)}) and is held: it may "
        "be what brings them down. Look at its memory and its children, then submit it anew."
    )
