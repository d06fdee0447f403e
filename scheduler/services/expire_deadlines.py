"""The backstop of deadlines: a task whose executor does not end it is ended here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.services.end_attempt import end_attempt
from scheduler.store.models import Task
from simherd.contract import limits
from simherd.contract.lifecycle import Status
from simherd.contract.outcome import Cause
from simherd.contract.spec import attempt_key

if TYPE_CHECKING:
    from scheduler.wiring import Parts

log = logging.getLogger(__name__)


def expire_deadlines(parts: Parts, now: float) -> None:
    """End the tasks that compute although their deadline is long past.

    Their executors are frozen or cut off; their leases are revoked, so that whatever they
    still say is refused.
    """
    with parts.store.read() as session:
        overdue = session.scalars(
            select(Task).where(
                Task.status == Status.COMPUTATION_STARTED.value,
                Task.deadline_at < now - limits.DEADLINE_BACKSTOP_S,
            )
        ).all()
    for task in overdue:
        with parts.store.write() as session:
            ended = end_attempt(
                session,
                task.id,
                task.attempt,
                Status.COMPUTATION_STARTED,
                False,
                Cause.TASK_TIME_LIMIT,
                now,
                machine_id=task.machine_id,
            )
        if ended is None:
            continue
        key = attempt_key(task.id, task.attempt)
        log.warning("event=deadline_backstop attempt=%s machine=%s", key, task.machine_id)
        holder = parts.queue.revoke(task.group_id, key)
        if holder:
            parts.queue.stop(task.group_id, holder, key, Cause.LEASE_LOST)
