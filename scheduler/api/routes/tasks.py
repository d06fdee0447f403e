"""Tasks."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Annotated, Any

import redis
from fastapi import Header, Query
from sqlalchemy import func, select

from scheduler.api.bounded import Metadata, Page
from scheduler.api.deps import PartsDep, UserDep
from scheduler.api.serializers import history_json, task_json
from scheduler.api.strict import StrictRouter
from scheduler.api.submissions import Key, TaskRequest
from scheduler.queue.broken_keys import BrokenKeys
from scheduler.services.billing.costs import costs_of_tasks, spent
from scheduler.services.errors import NotFound
from scheduler.services.tasks.enqueue import inputs_uploaded
from scheduler.services.tasks.kill import kill_task
from scheduler.services.tasks.submit import submit_tasks
from scheduler.store.models import MachineGroup, Project, StatusChange, Task, TaskOperation, User
from scheduler.wiring import Parts
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.lifecycle import TERMINAL, Status

router = StrictRouter(prefix="/tasks", tags=["tasks"])


def owned_task(parts: Parts, user: User, task_id: str) -> Task:
    """A user's task; 404 for everybody else's."""
    with parts.store.read() as session:
        task = session.scalar(select(Task).where(Task.id == task_id, Task.user_id == user.id))
    if task is None:
        raise NotFound(f"task_id: there is no task {task_id!r}.")
    return task


def _status_json(parts: Parts, task: Task) -> dict[str, Any]:
    position = None
    if task.status == Status.SUBMITTED:
        try:
            key = attempt_key(task.id, task.attempt)
            ahead = parts.queue.reader.position(task.group_id, key)
        except BrokenKeys:
            ahead = None  # its group is quarantined: `explain` says so
        position = None if ahead is None else {"tasks_ahead": ahead}
    return {
        "id": task.id,
        "status": task.status,
        "position_in_queue": position,
        "is_terminated": task.status in TERMINAL,
    }


@router.get("")
def list_tasks(
    parts: PartsDep,
    user: UserDep,
    page: Page = 1,
    per_page: Annotated[int, Query(ge=1, le=500)] = 10,
    status: Status | None = None,
    project: str | None = None,
) -> dict[str, Any]:
    """The user's tasks, newest first."""
    wanted = [Task.user_id == user.id]
    if status is not None:
        wanted.append(Task.status == status.value)
    with parts.store.read() as session:
        if project is not None:
            wanted.append(Project.name == project)
        total = session.scalar(
            select(func.count())
            .select_from(Task)
            .join(Project, Project.id == Task.project_id)
            .where(*wanted)
        )
        rows = session.execute(
            select(Task, Project.name, MachineGroup.name)
            .join(Project, Project.id == Task.project_id)
            .join(MachineGroup, MachineGroup.id == Task.group_id)
            .where(*wanted)
            .order_by(Task.seq.desc())
            .limit(per_page)
            .offset((page - 1) * per_page)
        ).all()
        costs = costs_of_tasks(session, (task.id for task, *_ in rows), time.time())
    tasks = [task_json(*row, costs.get(row[0].id, 0.0)) for row in rows]
    return {"total_size": total or 0, "tasks": tasks}


@router.post("/submit", status_code=202)
def submit(
    parts: PartsDep,
    user: UserDep,
    asked: TaskRequest,
    idempotency_key: Annotated[Key | None, Header()] = None,
) -> dict[str, Any]:
    """Make a task that waits for its input, or find the one that the same request has made."""
    (made,) = submit_tasks(parts, user.id, [asked.submission(idempotency_key)])
    return {
        "id": made.task_id,
        "status": made.status.value,
        "position_in_queue": None,
        "is_terminated": made.status in TERMINAL,
        "time_to_live_seconds": asked.time_to_live_seconds,
    }


@router.post("/{task_id}/input_uploaded")
def input_is_there(parts: PartsDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """The input has been uploaded: queue the task."""
    inputs_uploaded(parts, user.id, [task_id])
    return _status_json(parts, owned_task(parts, user, task_id))


@router.get("/{task_id}")
def get_task(parts: PartsDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """Everything about a task, with its history."""
    task = owned_task(parts, user, task_id)
    with parts.store.read() as session:
        project = session.scalar(select(Project.name).where(Project.id == task.project_id))
        group = session.scalar(select(MachineGroup.name).where(MachineGroup.id == task.group_id))
        changes = session.scalars(
            select(StatusChange).where(StatusChange.task_id == task_id).order_by(StatusChange.id)
        ).all()
        cost = spent(session, task_id, time.time())
        operations = defaultdict(list)
        for row in session.scalars(
            select(TaskOperation).where(TaskOperation.task_id == task_id).order_by(TaskOperation.id)
        ):
            operations[row.status_change_id].append(row)
    return {
        **task_json(task, project or "", group or "", cost),
        "status_history": history_json(changes, operations),
        "machine_operations": [],
        "staged_on": _staged_on(parts, task),
    }


def _staged_on(parts: PartsDep, task: Task) -> str | None:
    """The machine that fetches for a waiting task ahead."""
    if task.status != Status.SUBMITTED:
        return None
    try:
        return parts.queue.reader.prefetcher(task.group_id, attempt_key(task.id, task.attempt))
    except redis.RedisError:
        return None


@router.get("/{task_id}/status")
def get_status(parts: PartsDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """A task's status and its place in the queue."""
    return _status_json(parts, owned_task(parts, user, task_id))


@router.post("/{task_id}/kill")
def kill(parts: PartsDep, user: UserDep, task_id: str, discard: bool = False) -> dict[str, Any]:
    """Ask for a task to be killed; with `discard`, without storing what it has put out."""
    kill_task(parts, user.id, task_id, discard=discard)
    return _status_json(parts, owned_task(parts, user, task_id))


@router.put("/{task_id}/metadata")
def set_metadata(
    parts: PartsDep, user: UserDep, task_id: str, metadata: Metadata
) -> dict[str, str]:
    """Replace a task's metadata."""
    owned_task(parts, user, task_id)
    with parts.store.write() as session:
        task = session.scalars(select(Task).where(Task.id == task_id)).one()
        task.task_metadata = metadata
    return metadata


@router.get("/{task_id}/metadata")
def get_metadata(parts: PartsDep, user: UserDep, task_id: str) -> dict[str, str]:
    """A task's metadata."""
    return owned_task(parts, user, task_id).task_metadata
