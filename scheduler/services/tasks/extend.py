"""Moving a task's deadline while it waits or runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import redis

from scheduler.services.errors import Conflict, Invalid
from scheduler.services.tasks.enqueue import push_attempts
from scheduler.services.tasks.listing import task_of
from simherd.contract import limits
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.lifecycle import HELD, TABLE, TERMINAL, Status

if TYPE_CHECKING:
    from scheduler.store.models import TaskRow
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)


def extend_task(rt: Runtime, user_id: str, task_id: str, seconds: float) -> None:
    """Add to a task's time-to-live, and with it to its deadline.

    An executor that still prepares the task gets it when it starts to compute: the recorder
    compares its report with SQL.

    Raises:
        ResourceNotFound: the user has no such task.
        Conflict: the task has ended or is being killed, or has no time-to-live.
        Invalid: the sum is longer than the allowed time-to-live.
    """
    with rt.store.write() as session:
        task = task_of(session, user_id, task_id, lock=True)
        if task.status in TERMINAL or task.status == Status.PENDING_KILL:
            label = TABLE[Status(task.status)].label
            raise Conflict(f"Task {task_id} is {label}; its deadline can no longer be moved.")
        if task.time_to_live_s is None:
            raise Conflict(f"Task {task_id} has no time-to-live; there is nothing to extend.")
        if task.time_to_live_s + seconds > limits.MAX_TTL_S:
            raise Invalid(f"seconds: a task lives for {limits.MAX_TTL_S} s at most.")
        task.time_to_live_s += seconds
        if task.deadline_at is not None:
            task.deadline_at += seconds
    log.info("event=extended task=%s seconds=%s", task_id, seconds)
    try:
        _send_deadline(rt, task)
    except redis.RedisError as error:
        log.warning("event=extension_delayed task=%s error=%s", task_id, error)


def _send_deadline(rt: Runtime, task: TaskRow) -> None:
    if task.status == Status.SUBMITTED:
        push_attempts(rt, [task])  # renews what the claim hands over
    elif task.status in HELD and task.deadline_at is not None and task.machine_id:
        key = attempt_key(task.id, task.attempt)
        rt.queue.set_deadline(task.group_id, task.machine_id, key, task.deadline_at)
