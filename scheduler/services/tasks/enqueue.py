"""Queueing a task once its input is there, and handing its attempts to Redis."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import redis
from sqlalchemy import bindparam, func, select, update

from scheduler.domain.attempt_numbers import next_number, retries
from scheduler.objects.base import StorageAway
from scheduler.queue import memory
from scheduler.queue.group_queue import Arrival
from scheduler.queue.servers import UnknownServer
from scheduler.services.attempts.spec import spec_of
from scheduler.services.errors import Conflict, NotFound, Refused, TooLarge, Unanswered
from scheduler.services.groups.access import is_shared
from scheduler.store.models import MachineGroup, Task
from scheduler.store.transitions import change_status
from simherd.contract import limits, objects
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import Status
from simherd.contract.operations import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.wiring import Parts

log = logging.getLogger(__name__)

#: Stored inputs that are looked at at one time.
_STATS = 16


def inputs_uploaded(parts: Parts, user_id: str, task_ids: Sequence[str]) -> None:
    """Queue tasks whose inputs have arrived. Calling it again changes nothing.

    Raises:
        NotFound: no such task of this user.
        Conflict: an input is not there, or a task is past waiting for it.
        TooLarge: an input is larger than allowed.
        Unanswered: Redis has no room for more.
    """
    with parts.store.read() as session:
        query = select(Task).where(Task.id.in_(task_ids), Task.user_id == user_id)
        found = {task.id: task for task in session.scalars(query)}
    for task_id in task_ids:
        if task_id not in found:
            raise NotFound(f"task_id: there is no task {task_id!r}.")
    waiting = [found[i] for i in dict.fromkeys(task_ids) if _waits(found[i])]
    for group_id in {task.group_id for task in waiting}:
        check_room(parts, group_id)
    with ThreadPoolExecutor(min(_STATS, max(1, len(waiting))), "inputs") as pool:
        sizes = list(pool.map(lambda task: _input_size(parts, task), waiting))
    now = time.time()
    queued = []
    with parts.store.write() as session:
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
    enqueue_all(parts, queued)


def check_room(parts: Parts, group_id: str) -> None:
    """Refuse tasks for a group whose Redis has nearly reached its memory limit.

    One that is out of reach is another matter: SQL keeps the tasks until it is back.

    Raises:
        Unanswered: there is no room.
    """
    try:
        memory.check_room(parts.queue.servers.of(group_id))
    except memory.RedisFull as error:
        raise Unanswered(str(error)) from error
    except (redis.RedisError, UnknownServer) as error:
        log.warning("event=room_unknown group=%s error=%s", group_id, error)


def _waits(task: Task) -> bool:
    if task.status == Status.PENDING_INPUT:
        return True
    if task.attempt == 0:
        raise Conflict(f"Task {task.id} is {task.status} and takes no input any more.")
    return False


def _input_size(parts: Parts, task: Task) -> int:
    path = objects.input_path(task.storage_prefix, task.id)
    found = parts.objects.stat(task.user_id, path)
    if found is None:
        raise Conflict(f"There is no input at {path!r} yet. Upload it, then call this again.")
    if found.size > limits.MAX_INPUT_BYTES:
        raise TooLarge(
            f"The input has {found.size} bytes; {limits.MAX_INPUT_BYTES} are allowed. "
            "Leave files out, or put them into storage and name them as remote assets."
        )
    return found.size


def enqueue(parts: Parts, task_id: str) -> None:
    """Put the current attempt of a queued task into its group's queue; see `enqueue_all`."""
    enqueue_all(parts, [task_id])


def enqueue_all(parts: Parts, task_ids: Sequence[str]) -> int:
    """Put the current attempts of queued tasks into their groups' queues; see `put_in_queue`."""
    with parts.store.read() as session:
        query = select(Task).where(Task.id.in_(task_ids), Task.status == Status.SUBMITTED.value)
        tasks = session.scalars(query.order_by(Task.seq)).all()
    return put_in_queue(parts, tasks) if tasks else 0


def put_in_queue(parts: Parts, tasks: Sequence[Task]) -> int:
    """Hand queued attempts to Redis, with URLs that are good from now on; answers how many.

    Where their Redis or the storage is out of reach the reconciler does it later: SQL says that
    they are queued.
    """
    queued: set[str] = set()
    for group_id, some in _arrivals(parts, tasks).items():
        queued.update(_hand_over(parts, group_id, some))
    if not queued:
        return 0
    now = time.time()
    with parts.store.write() as session:
        session.connection().execute(
            update(Task)
            .where(Task.id == bindparam("task"), Task.attempt == bindparam("current"))
            # It waits from the first time on, however often what is handed over is renewed.
            .values(queued_at=func.coalesce(Task.queued_at, now), handed_over_at=now),
            [
                {"task": task.id, "current": task.attempt}
                for task in tasks
                if attempt_key(task.id, task.attempt) in queued
            ],
        )
    return len(queued)


def _arrivals(parts: Parts, tasks: Sequence[Task]) -> dict[str, list[Arrival]]:
    """Group → what its queue is handed, but for tasks that the storage has to be asked about while
    it does not answer."""
    arrivals: dict[str, list[Arrival]] = {}
    takes_turns: dict[str, bool] = {}
    away, refused = False, dict[str, str]()
    with parts.store.read() as session:
        for task in tasks:
            if away and task.input_resources:
                continue  # one long wait is enough
            group = session.get_one(MachineGroup, task.group_id)
            if group.quarantined_at is not None:
                continue  # its repair queues them
            if group.id not in takes_turns:
                takes_turns[group.id] = is_shared(session, group)
            try:
                spec = spec_of(parts, session, task, group)
            except StorageAway as error:
                log.warning("event=enqueue_delayed task=%s error=%s", task.id, error)
                away = True
                continue
            except Refused as error:
                refused[task.id] = str(error)
                continue
            # Submission order is kept by later attempts: a task whose machine was lost is ahead of
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
    _end_refused(parts, tasks, refused)
    return arrivals


def _end_refused(parts: Parts, tasks: Sequence[Task], refused: Mapping[str, str]) -> None:
    """End tasks that an earlier release took and this one does not: they hold up no others."""
    if not refused:
        return
    now = time.time()
    with parts.store.write() as session:
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


def _hand_over(parts: Parts, group_id: str, arrivals: Sequence[Arrival]) -> list[str]:
    """Queue attempts of one group; answers those that Redis knows now."""
    try:
        parts.queue.enqueue(group_id, arrivals)
    except (redis.RedisError, UnknownServer) as error:
        log.warning("event=enqueue_delayed tasks=%s error=%s", len(arrivals), error)
        return []
    return [arrival.attempt for arrival in arrivals]
