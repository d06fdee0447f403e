"""Killing a task that waits or runs."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import redis

from scheduler.services.attempts.rows import close_attempt
from scheduler.services.tasks.listing import task_of
from scheduler.store.transitions import change_status
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import TERMINAL, Status

if TYPE_CHECKING:
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)


def kill_task(rt: Runtime, user_id: str, task_id: str, *, discard: bool = False) -> None:
    """Request the kill of a task. A task that has ended, or is being killed, stays as it is.

    Its outputs so far are kept unless `discard` is set; a second kill may still set it.

    Raises ResourceNotFound: the user has no such task.
    """
    now = time.time()
    with rt.store.write() as session:
        task = task_of(session, user_id, task_id, lock=True)
        repeated = task.status == Status.PENDING_KILL
        if task.status in TERMINAL or (repeated and (task.discard_outputs or not discard)):
            return
        if repeated:
            task.discard_outputs = True
        else:
            change_status(
                session,
                task_id,
                Status.PENDING_KILL,
                attempt=task.attempt,
                at=now,
                discard_outputs=discard,
            )
    try:
        settle_kill(rt, task.group_id, task_id, task.attempt, discard=discard)
    except redis.RedisError as error:
        log.warning("event=kill_delayed task=%s error=%s", task_id, error)


def settle_kill(rt: Runtime, group_id: str, task_id: str, attempt: int, *, discard: bool) -> None:
    """Carry out a pending kill: remove the attempt from the queue, or order its holder to stop.
    Safe to repeat; the reconciler does so while the task is pending-kill."""
    if attempt:
        key = attempt_key(task_id, attempt)
        outcome, holder = rt.queue.withdraw(group_id, key)
        if outcome == "held" and holder:
            rt.queue.stop(group_id, holder, key, Cause.KILLED_BY_USER, discard=discard)
            return
    now = time.time()
    with rt.store.write() as session:
        killed = change_status(
            session,
            task_id,
            Status.KILLED,
            attempt=attempt,
            at=now,
            cause=Cause.KILLED_BY_USER.value,
        )
        if killed:
            close_attempt(session, task_id, attempt, now, Cause.KILLED_BY_USER)
