"""Queueing a task once its input is there, and handing its attempts to Redis."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import redis
from sqlalchemy import select, update

from scheduler.services.attempt_spec import build_spec
from scheduler.services.errors import Conflict, NotFound, TooLarge
from scheduler.store.models import MachineGroup, Task
from scheduler.store.transitions import change_status
from simherd.contract import limits, objects
from simherd.contract.lifecycle import Status
from simherd.contract.operations import Metric

if TYPE_CHECKING:
    from scheduler.wiring import Parts

log = logging.getLogger(__name__)


def input_uploaded(parts: Parts, user_id: str, task_id: str) -> None:
    """Queue a task whose input has arrived. Calling it again changes nothing.

    Raises:
        NotFound: no such task of this user.
        Conflict: the input is not there, or the task is past waiting for it.
        TooLarge: the input is larger than allowed.
    """
    with parts.store.read() as session:
        task = session.scalar(select(Task).where(Task.id == task_id, Task.user_id == user_id))
    if task is None:
        raise NotFound(f"task_id: there is no task {task_id!r}.")
    if task.status != Status.PENDING_INPUT:
        if task.attempt > 0:
            return
        raise Conflict(f"Task {task_id} is {task.status} and takes no input any more.")
    path = objects.input_path(task.storage_prefix, task_id)
    found = parts.objects.stat(user_id, path)
    if found is None:
        raise Conflict(f"There is no input at {path!r} yet. Upload it, then call this again.")
    if found.size > limits.MAX_INPUT_BYTES:
        raise TooLarge(
            f"The input has {found.size} bytes; {limits.MAX_INPUT_BYTES} are allowed. "
            "Leave files out, or put them into storage and name them as remote assets."
        )
    now = time.time()
    metrics = {
        Metric.INPUT_UPLOAD_SECONDS.value: round(now - task.create_time, 6),
        Metric.INPUT_ZIPPED_SIZE_BYTES.value: found.size,
    }
    with parts.store.write() as session:
        queued = change_status(
            session,
            task_id,
            Status.SUBMITTED,
            attempt=0,
            at=now,
            only_from=frozenset({Status.PENDING_INPUT}),
            next_attempt=1,
            input_submit_time=now,
            metrics=metrics,
        )
    if queued:
        enqueue(parts, task_id)


def enqueue(parts: Parts, task_id: str) -> None:
    """Put the current attempt of a queued task into its group's queue.

    When Redis is out of reach the reconciler does it later: SQL says that it is queued.
    """
    with parts.store.read() as session:
        task = session.scalar(select(Task).where(Task.id == task_id))
    if task is None or task.status != Status.SUBMITTED:
        return
    try:
        put_in_queue(parts, task)
    except redis.RedisError as error:
        log.warning("event=enqueue_delayed task=%s error=%s", task_id, error)


def put_in_queue(parts: Parts, task: Task) -> None:
    """Hand a queued attempt to Redis, with URLs that are good from now on."""
    spec = build_spec(parts, task)
    with parts.store.read() as session:
        shared = session.get_one(MachineGroup, task.group_id).shared
    # Submission order is kept by later attempts: a task whose machine was lost is ahead of
    # everything that was submitted after it.
    parts.queue.enqueue(
        task.group_id,
        spec.key,
        task.seq,
        spec.encode(),
        priority=task.priority,
        user=task.user_id if shared else "",
        ahead=task.attempt > 1,
    )
    with parts.store.write() as session:
        session.execute(
            update(Task)
            .where(Task.id == task.id, Task.attempt == task.attempt)
            .values(queued_at=time.time())
        )
