"""Tasks."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Annotated, Any

import redis
from fastapi import Header, Query
from sqlalchemy import func, select

from scheduler.api.bounded import Metadata, Page
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.serializers import history_json, task_json
from scheduler.api.strict import StrictRouter
from scheduler.api.submissions import Key, TaskRequest
from scheduler.queue.broken_keys import BrokenKeys
from scheduler.services.billing.costs import costs_of_tasks, spent
from scheduler.services.errors import ResourceNotFound
from scheduler.services.tasks.enqueue import inputs_uploaded
from scheduler.services.tasks.kill import kill_task
from scheduler.services.tasks.submit import submit_tasks
from scheduler.store.models import GroupRow, ProjectRow, StatusChange, TaskOperation, TaskRow, User
from scheduler.wiring import Runtime
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.lifecycle import TERMINAL, Status

router = StrictRouter(prefix="/tasks", tags=["tasks"])


def owned_task(rt: Runtime, user: User, task_id: str) -> TaskRow:
    """A user's task; 404 for everybody else's."""
    with rt.store.read() as session:
        task = session.scalar(
            select(TaskRow).where(TaskRow.id == task_id, TaskRow.user_id == user.id)
        )
    if task is None:
        raise ResourceNotFound(f"task_id: there is no task {task_id!r}.")
    return task


def _status_json(rt: Runtime, task: TaskRow) -> dict[str, Any]:
    position = None
    if task.status == Status.SUBMITTED:
        try:
            key = attempt_key(task.id, task.attempt)
            ahead = rt.queue.reader.position(task.group_id, key)
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
    rt: RuntimeDep,
    user: UserDep,
    page: Page = 1,
    per_page: Annotated[int, Query(ge=1, le=500)] = 10,
    status: Status | None = None,
    project: str | None = None,
) -> dict[str, Any]:
    """The user's tasks, newest first."""
    wanted = [TaskRow.user_id == user.id]
    if status is not None:
        wanted.append(TaskRow.status == status.value)
    with rt.store.read() as session:
        if project is not None:
            wanted.append(ProjectRow.name == project)
        total = session.scalar(
            select(func.count())
            .select_from(TaskRow)
            .join(ProjectRow, ProjectRow.id == TaskRow.project_id)
            .where(*wanted)
        )
        rows = session.execute(
            select(TaskRow, ProjectRow.name, GroupRow.name)
            .join(ProjectRow, ProjectRow.id == TaskRow.project_id)
            .join(GroupRow, GroupRow.id == TaskRow.group_id)
            .where(*wanted)
            .order_by(TaskRow.seq.desc())
            .limit(per_page)
            .offset((page - 1) * per_page)
        ).all()
        costs = costs_of_tasks(session, (task.id for task, *_ in rows), time.time())
    tasks = [task_json(*row, costs.get(row[0].id, 0.0)) for row in rows]
    return {"total_size": total or 0, "tasks": tasks}


@router.post("/submit", status_code=202)
def submit(
    rt: RuntimeDep,
    user: UserDep,
    asked: TaskRequest,
    idempotency_key: Annotated[Key | None, Header()] = None,
) -> dict[str, Any]:
    """Make a task that waits for its input, or find the one that the same request has made."""
    (made,) = submit_tasks(rt, user.id, [asked.submission(idempotency_key)])
    return {
        "id": made.task_id,
        "status": made.status.value,
        "position_in_queue": None,
        "is_terminated": made.status in TERMINAL,
        "time_to_live_seconds": asked.time_to_live_seconds,
    }


@router.post("/{task_id}/input_uploaded")
def input_is_there(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """The input has been uploaded: queue the task."""
    inputs_uploaded(rt, user.id, [task_id])
    return _status_json(rt, owned_task(rt, user, task_id))


@router.get("/{task_id}")
def get_task(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """Everything about a task, with its history."""
    task = owned_task(rt, user, task_id)
    with rt.store.read() as session:
        project = session.scalar(select(ProjectRow.name).where(ProjectRow.id == task.project_id))
        group = session.scalar(select(GroupRow.name).where(GroupRow.id == task.group_id))
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
        "staged_on": _staged_on(rt, task),
    }


def _staged_on(rt: RuntimeDep, task: TaskRow) -> str | None:
    """The machine that fetches for a waiting task ahead."""
    if task.status != Status.SUBMITTED:
        return None
    try:
        return rt.queue.reader.prefetcher(task.group_id, attempt_key(task.id, task.attempt))
    except redis.RedisError:
        return None


@router.get("/{task_id}/status")
def get_status(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """A task's status and its place in the queue."""
    return _status_json(rt, owned_task(rt, user, task_id))


@router.post("/{task_id}/kill")
def kill(rt: RuntimeDep, user: UserDep, task_id: str, discard: bool = False) -> dict[str, Any]:
    """Ask for a task to be killed; with `discard`, without storing what it has put out."""
    kill_task(rt, user.id, task_id, discard=discard)
    return _status_json(rt, owned_task(rt, user, task_id))


@router.put("/{task_id}/metadata")
def set_metadata(rt: RuntimeDep, user: UserDep, task_id: str, metadata: Metadata) -> dict[str, str]:
    """Replace a task's metadata."""
    owned_task(rt, user, task_id)
    with rt.store.write() as session:
        task = session.scalars(select(TaskRow).where(TaskRow.id == task_id)).one()
        task.task_metadata = metadata
    return metadata


@router.get("/{task_id}/metadata")
def get_metadata(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, str]:
    """A task's metadata."""
    return owned_task(rt, user, task_id).task_metadata
