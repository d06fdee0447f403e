"""How an attempt's end changes its task: the final status, or the queue again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.store.transitions import change_status
from simherd.contract import limits
from simherd.contract.lifecycle import Status
from simherd.contract.outcome import OUTCOMES, Cause

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def end_attempt(
    session: Session,
    task_id: str,
    attempt: int,
    status: Status,
    resubmit: bool,
    cause: Cause,
    at: float,
    *,
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
        detail: a sentence for people; default: the cause's own.
        exit_code: of the last command, where there is one.
        machine_id: where it ended.
        values: further columns of the task that change with it.

    Returns:
        The task's new status, or None when the change was refused.
    """
    outcome = OUTCOMES[cause]
    sentence = detail or outcome.sentence
    if status == Status.PENDING_KILL:
        to = Status.KILLED
        values |= {"cause": Cause.KILLED_BY_USER.value}
        described = None
    elif outcome.resubmit and resubmit and attempt < limits.MAX_ATTEMPTS:
        to = Status.SUBMITTED
        described = f"{sentence} Queued again as attempt {attempt + 1}."
        values |= {
            "next_attempt": attempt + 1,
            "executer": None,
            "start_time": None,
            "computation_start_time": None,
            "computation_end_time": None,
        }
    else:
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
    return to if applied else None
