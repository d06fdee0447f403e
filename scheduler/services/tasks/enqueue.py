"""Queueing tasks whose input has arrived, and pushing their attempts to Redis."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import redis
from sqlalchemy import bindparam, func, select, update

from scheduler.domain.attempt_numbers import next_number, retries
from scheduler.domain.limits import MAX_INPUT_BYTES
from scheduler.objects.base import StorageUnavailable
from scheduler.queue import memory
from scheduler.queue.group_queue import Arrival
from scheduler.queue.servers import UnknownServer
from scheduler.services.attempts.spec import spec_of
from scheduler.services.errors import (
    Conflict,
    GatewayTimeout,
    ResourceNotFound,
    ServiceError,
    TooLarge,
)
from scheduler.services.groups.access import is_shared
from scheduler.store.models import GroupRow, TaskRow
from scheduler.store.transitions import change_status
from simherd.contract import objects
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import Status
from simherd.contract.operations import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: Stored inputs that are checked at the same time.
_STATS = 16


def inputs_uploaded(rt: Runtime, user_id: str, task_ids: Sequence[str]) -> None:
    """Queue tasks whose inputs have arrived. Calling it again changes nothing.

    Raises:
        ResourceNotFound: the user has no such task.
        Conflict: an input is missing, or a task no longer waits for one.
        TooLarge: an input is larger than allowed.
        GatewayTimeout: Redis has no room for more.
    """
    with rt.store.read() as session:
        query = select(TaskRow).where(TaskRow.id.in_(task_ids), TaskRow.user_id == user_id)
        tasks = {task.id: task for task in session.scalars(query)}
    for task_id in task_ids:
        if task_id not in tasks:
            raise ResourceNotFound(f"task_id: there is no task {task_id!r}.")
    waiting = [tasks[i] for i in dict.fromkeys(task_ids) if _waits(tasks[i])]
    for group_id in {task.group_id for task in waiting}:
        check_room(rt, group_id)
    with ThreadPoolExecutor(min(_STATS, max(1, len(waiting))), "inputs") as pool:
        sizes = list(pool.map(lambda task: _input_size(rt, task), waiting))
    now = time.time()
    queued = []
    with rt.store.write() as session:
        for task, size in zip(waiting, sizes, strict=True):
            metrics = {
                Metric.INPUT_UPLOAD_SECONDS.value: round(now - task.create_time, 6),
                Metric.INPUT_ZIPPED_SIZE_BYTES.value: size,
            }
            if change_status(
                session,
                task.id,
                Status.SUBMITTED,
                attempt=0,
                at=now,
                only_from=frozenset({Status.PENDING_INPUT}),
                next_attempt=next_number(0, task.attempt_floor),
                input_submit_time=now,
                metrics=metrics,
            ):
                queued.append(task.id)
    enqueue_tasks(rt, queued)


def check_room(rt: Runtime, group_id: str) -> None:
    """Refuse tasks for a group whose Redis has nearly reached its memory limit.

    Tasks for a Redis that is unreachable are accepted: SQL keeps them until it is back.

    Raises GatewayTimeout: there is no room.
    """
    try:
        memory.check_room(rt.queue.servers.of(group_id))
    except memory.RedisFull as error:
        raise GatewayTimeout(str(error)) from error
    except (redis.RedisError, UnknownServer) as error:
        log.warning("event=room_unknown group=%s error=%s", group_id, error)


def _waits(task: TaskRow) -> bool:
    if task.status == Status.PENDING_INPUT:
        return True
    if task.attempt == 0:
        raise Conflict(f"Task {task.id} is {task.status} and no longer accepts an input.")
    return False


def _input_size(rt: Runtime, task: TaskRow) -> int:
    path = objects.input_path(task.storage_prefix, task.id)
    info = rt.objects.stat(task.user_id, path)
    if info is None:
        raise Conflict(f"There is no input at {path!r} yet. Upload it, then call this again.")
    if info.size > MAX_INPUT_BYTES:
        raise TooLarge(
            f"The input has {info.size} bytes; {MAX_INPUT_BYTES} are allowed. "
            "Leave files out, or put them into storage and name them as remote assets."
        )
    return info.size


def enqueue_task(rt: Runtime, task_id: str) -> None:
    """Put the current attempt of a queued task into its group's queue; see `push_attempts`."""
    enqueue_tasks(rt, [task_id])


def enqueue_tasks(rt: Runtime, task_ids: Sequence[str]) -> int:
    """Put the current attempts of queued tasks into their groups' queues; see `push_attempts`."""
    with rt.store.read() as session:
        query = select(TaskRow).where(
            TaskRow.id.in_(task_ids), TaskRow.status == Status.SUBMITTED.value
        )
        tasks = session.scalars(query.order_by(TaskRow.seq)).all()
    return push_attempts(rt, tasks) if tasks else 0


def push_attempts(rt: Runtime, tasks: Sequence[TaskRow]) -> int:
    """Push queued attempts to Redis, with URLs that are valid from now on; return how many.

    Where their Redis or the storage is unreachable the reconciler does it later: SQL says that they
    are queued.
    """
    queued: set[str] = set()
    for group_id, some in _arrivals(rt, tasks).items():
        queued.update(_push(rt, group_id, some))
    if not queued:
        return 0
    now = time.time()
    with rt.store.write() as session:
        session.connection().execute(
            update(TaskRow)
            .where(TaskRow.id == bindparam("task"), TaskRow.attempt == bindparam("current"))
            # The wait counts from the first push, however often the URLs are renewed.
            .values(queued_at=func.coalesce(TaskRow.queued_at, now), handed_over_at=now),
            [
                {"task": task.id, "current": task.attempt}
                for task in tasks
                if attempt_key(task.id, task.attempt) in queued
            ],
        )
    return len(queued)


def _arrivals(rt: Runtime, tasks: Sequence[TaskRow]) -> dict[str, list[Arrival]]:
    """Return group → what its queue gets, without tasks that need the storage while it is
    unavailable."""
    arrivals: dict[str, list[Arrival]] = {}
    takes_turns: dict[str, bool] = {}
    is_unavailable, refused = False, dict[str, str]()
    with rt.store.read() as session:
        for task in tasks:
            if is_unavailable and task.input_resources:
                continue  # one long wait is enough
            group = session.get_one(GroupRow, task.group_id)
            if group.quarantined_at is not None:
                continue  # its repair queues them
            if group.id not in takes_turns:
                takes_turns[group.id] = is_shared(session, group)
            try:
                spec = spec_of(rt, session, task, group)
            except StorageUnavailable as error:
                log.warning("event=enqueue_delayed task=%s error=%s", task.id, error)
                is_unavailable = True
                continue
            except ServiceError as error:
                refused[task.id] = str(error)
                continue
            # Later attempts keep the order of submission: a task whose machine was lost goes before
            # everything that was submitted after it.
            arrival = Arrival(
                spec.key,
                task.seq,
                spec.encode(),
                priority=task.priority,
                user=task.user_id if takes_turns[group.id] else "",
                ahead=retries(task.attempt, task.attempt_floor, task.attempts_before) > 0,
            )
            arrivals.setdefault(group.id, []).append(arrival)
    _end_refused(rt, tasks, refused)
    return arrivals


def _end_refused(rt: Runtime, tasks: Sequence[TaskRow], refused: Mapping[str, str]) -> None:
    """End tasks that an earlier release accepted and this one refuses."""
    if not refused:
        return
    now = time.time()
    with rt.store.write() as session:
        for task in tasks:
            if task.id in refused:
                log.error("event=task_refused task=%s reason=%s", task.id, refused[task.id])
                change_status(
                    session,
                    task.id,
                    Status.EXECUTER_FAILED,
                    attempt=task.attempt,
                    at=now,
                    description=refused[task.id],
                    cause=Cause.INPUT_INVALID.value,
                    error_detail=refused[task.id],
                )


def _push(rt: Runtime, group_id: str, arrivals: Sequence[Arrival]) -> list[str]:
    """Push attempts of one group; return those that Redis has now."""
    try:
        rt.queue.enqueue(group_id, arrivals)
    except (redis.RedisError, UnknownServer) as error:
        log.warning("event=enqueue_delayed tasks=%s error=%s", len(arrivals), error)
        return []
    return [arrival.attempt for arrival in arrivals]
