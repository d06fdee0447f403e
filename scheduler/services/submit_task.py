"""Submitting a task, and queueing its attempts."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy import select, update

from scheduler.services.attempt_spec import build_spec, check_extra_params, wants_network
from scheduler.services.errors import Conflict, Invalid, NotFound, TooLarge
from scheduler.services.group_states import ACCEPTING
from scheduler.services.groups import usable_group
from scheduler.services.ids import new_task_id
from scheduler.services.projects import DEFAULT_PROJECT, ensure_project
from scheduler.services.quotas import check_queue, check_storage, quotas_of
from scheduler.store.models import MachineGroup, Task
from scheduler.store.transitions import add_history, change_status
from simherd.contract import limits, objects
from simherd.contract.lifecycle import Status
from simherd.contract.operations import Metric
from simherd.contract.policy import Policy

if TYPE_CHECKING:
    from scheduler.wiring import Parts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """What a user asks for; already checked field by field."""

    group_id: str
    simulator: str
    simulator_alias: str | None
    container_image: str
    storage_prefix: str = ""
    project: str | None = None
    time_to_live_s: float | None = None
    #: US$ that its machines may cost in all.
    max_cost: float | None = None
    resubmit: bool = False
    stream_zip: bool = True
    compress_with: str = "SEVEN_Z"
    input_resources: list[str] = field(default_factory=list)
    priority: int = 0
    extra_params: dict[str, Any] = field(default_factory=dict)


def submit_task(parts: Parts, user_id: str, submission: Submission) -> str:
    """Make a task that waits for its input; answers its id.

    Raises:
        NotFound: the machine group is not the user's.
        Conflict: the machine group takes no tasks any more.
        Invalid: a command or a path cannot be.
        QuotaExceeded: the user has as much as is allowed already.
    """
    check_extra_params(submission.extra_params)
    now = time.time()
    task_id = new_task_id()
    try:
        objects.task_dir(submission.storage_prefix, task_id)
        for path in submission.input_resources:
            objects.normalise(path)
    except ValueError as error:
        raise Invalid(f"storage_path_prefix or input_resources: {error}.") from error
    allowed = quotas_of(parts, user_id)
    check_storage(parts, user_id, allowed)
    with parts.store.write() as session:
        found = session.get(MachineGroup, submission.group_id)
        group = usable_group(found, user_id, submission.group_id)
        if group.status not in ACCEPTING:
            raise Conflict(
                f"resource_pool: machine group {group.name!r} is {group.status}. "
                "Start another group and submit the task to it."
            )
        if wants_network(submission.extra_params) and not Policy.read(group.policy).network:
            raise Invalid(
                f"extra_params.network: machine group {group.name!r} allows no network. "
                "Start a group whose policy does, or do without."
            )
        check_queue(session, user_id, allowed)
        project = ensure_project(session, user_id, submission.project or DEFAULT_PROJECT)
        session.add(
            Task(
                id=task_id,
                user_id=user_id,
                project_id=project.id,
                group_id=group.id,
                status=Status.PENDING_INPUT.value,
                simulator=submission.simulator,
                simulator_alias=submission.simulator_alias,
                container_image=submission.container_image,
                storage_prefix=submission.storage_prefix,
                time_to_live_s=submission.time_to_live_s,
                max_cost=submission.max_cost,
                resubmit=submission.resubmit,
                stream_zip=submission.stream_zip,
                compress_with=submission.compress_with,
                extra_params=submission.extra_params,
                priority=submission.priority,
                input_resources=submission.input_resources,
                create_time=now,
            )
        )
        session.flush()
        add_history(session, task_id, Status.PENDING_INPUT, 0, now)
    log.info("event=submitted task=%s group=%s", task_id, submission.group_id)
    return task_id


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
