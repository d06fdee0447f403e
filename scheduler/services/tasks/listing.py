"""A user's tasks, as the API lists and shows them."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy import func, select

from scheduler.queue.broken_keys import BrokenKeys
from scheduler.services.billing.costs import attempt_cost, costs_of_tasks, spent
from scheduler.services.errors import ResourceNotFound
from scheduler.store.models import (
    AttemptRow,
    GroupRow,
    MachineRow,
    ProjectRow,
    StatusChange,
    TaskOperation,
    TaskRow,
    UsageSample,
)
from simherd.contract.attempt_spec import attempt_key
from simherd.contract.lifecycle import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime


@dataclass(frozen=True)
class TaskInList:
    """A task with the names of its project and machine group, and its cost so far in US$."""

    task: TaskRow
    project: str
    group: str
    cost: float


@dataclass(frozen=True)
class TaskDetails(TaskInList):
    """A task with its history; `prefetched_on` is the machine that already fetches its inputs."""

    changes: Sequence[StatusChange]
    #: Id of a status change → the operations that began in that status.
    operations: Mapping[int, Sequence[TaskOperation]]
    prefetched_on: str | None


def owned_task(rt: Runtime, user_id: str, task_id: str) -> TaskRow:
    """Return a user's task. Raises ResourceNotFound, also for other users' tasks."""
    with rt.store.read() as session:
        return task_of(session, user_id, task_id)


def task_of(session: Session, user_id: str, task_id: str, *, lock: bool = False) -> TaskRow:
    """Return a user's task, locked if so asked. Raises ResourceNotFound."""
    query = select(TaskRow).where(TaskRow.id == task_id, TaskRow.user_id == user_id)
    task = session.scalar(query.with_for_update() if lock else query)
    if task is None:
        raise ResourceNotFound(f"task_id: there is no task {task_id!r}.")
    return task


def list_tasks(
    session: Session,
    user_id: str,
    page: int,
    per_page: int,
    *,
    status: Status | None = None,
    project: str | None = None,
) -> tuple[int, list[TaskInList]]:
    """Return how many tasks match, and one page of them, newest first."""
    conditions = [TaskRow.user_id == user_id]
    if status is not None:
        conditions.append(TaskRow.status == status.value)
    if project is not None:
        conditions.append(ProjectRow.name == project)
    matching = (
        select(TaskRow, ProjectRow.name, GroupRow.name)
        .join(ProjectRow, ProjectRow.id == TaskRow.project_id)
        .join(GroupRow, GroupRow.id == TaskRow.group_id)
        .where(*conditions)
    )
    total = session.scalar(matching.with_only_columns(func.count(), maintain_column_froms=True))
    newest_first = matching.order_by(TaskRow.seq.desc())
    rows = session.execute(newest_first.limit(per_page).offset((page - 1) * per_page)).all()
    costs = costs_of_tasks(session, (task.id for task, *_ in rows), time.time())
    return total or 0, [TaskInList(*row, costs.get(row[0].id, 0.0)) for row in rows]


def task_details(rt: Runtime, user_id: str, task_id: str) -> TaskDetails:
    """Return everything about a task. Raises ResourceNotFound."""
    with rt.store.read() as session:
        task = task_of(session, user_id, task_id)
        project = session.scalar(select(ProjectRow.name).where(ProjectRow.id == task.project_id))
        group = session.scalar(select(GroupRow.name).where(GroupRow.id == task.group_id))
        changes = session.scalars(
            select(StatusChange).where(StatusChange.task_id == task_id).order_by(StatusChange.id)
        ).all()
        operations = defaultdict(list)
        for row in session.scalars(
            select(TaskOperation).where(TaskOperation.task_id == task_id).order_by(TaskOperation.id)
        ):
            operations[row.status_change_id].append(row)
        cost = spent(session, task_id, time.time())
    prefetched_on = _prefetching_machine(rt, task)
    return TaskDetails(task, project or "", group or "", cost, changes, operations, prefetched_on)


def _prefetching_machine(rt: Runtime, task: TaskRow) -> str | None:
    if task.status != Status.SUBMITTED:
        return None
    try:
        return rt.queue.reader.prefetcher(task.group_id, attempt_key(task.id, task.attempt))
    except redis.RedisError:
        return None


def tasks_ahead(rt: Runtime, task: TaskRow) -> int | None:
    """Return how many tasks are queued before this one; None: it is not queued."""
    if task.status != Status.SUBMITTED:
        return None
    try:
        return rt.queue.reader.position(task.group_id, attempt_key(task.id, task.attempt))
    except BrokenKeys:
        return None  # Its group is quarantined, which `explain` reports.


def set_task_metadata(
    session: Session, user_id: str, task_id: str, metadata: dict[str, str]
) -> None:
    """Replace a task's metadata. Raises ResourceNotFound."""
    task_of(session, user_id, task_id).task_metadata = metadata


def usage_samples(session: Session, user_id: str, task_id: str) -> Sequence[UsageSample]:
    """Return what a task used over time, oldest sample first. Raises ResourceNotFound."""
    task_of(session, user_id, task_id)
    query = select(UsageSample).where(UsageSample.task_id == task_id).order_by(UsageSample.at)
    return session.scalars(query).all()


def attempts_of(
    session: Session, user_id: str, task_id: str, now: float
) -> list[tuple[AttemptRow, Any, float]]:
    """Return a task's claimed attempts in order: each with its machine's name and cost in US$.
    Raises ResourceNotFound."""
    task_of(session, user_id, task_id)
    rows = session.execute(
        select(AttemptRow, MachineRow.name)
        .outerjoin(MachineRow, MachineRow.id == AttemptRow.machine_id)
        .where(AttemptRow.task_id == task_id)
        .order_by(AttemptRow.attempt)
    )
    return [(row, machine, attempt_cost(row, now)) for row, machine in rows]
