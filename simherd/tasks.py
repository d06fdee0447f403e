"""Finding tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simherd.contract.lifecycle import TABLE
from simherd.errors import InvalidInput
from simherd.http import api
from simherd.info import TaskInfo
from simherd.output_info import TaskOutputInfo
from simherd.task import Task, to_status
from simherd.waiting import wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "Task",
    "TaskInfo",
    "TaskOutputInfo",
    "get",
    "get_all",
    "get_tasks",
    "to_dict",
    "wait",
]

#: Tasks asked for in one request; the contract allows no more.
_PAGE = 500


def get(last_n: int = 5, status: str | None = None, project: str | None = None) -> list[Task]:
    """The last `last_n` submitted tasks, newest first.

    Args:
        last_n: how many at the most.
        status: only tasks with this status.
        project: only tasks of this project.

    Raises:
        InvalidInput: `last_n` is not positive, or there is no such status.
    """
    if last_n < 1:
        raise InvalidInput(f"last_n: {last_n} must be at least 1.")
    return _list(last_n, status, project)


def get_all(status: str | None = None, project: str | None = None) -> list[Task]:
    """All tasks, newest first; see `get`."""
    return _list(None, status, project)


def get_tasks(
    last_n: int = 10, project: str | None = None, status: str | None = None
) -> list[Task]:
    """The last `last_n` submitted tasks, or all of them where it is 0 or less; see `get`."""
    return _list(last_n if last_n > 0 else None, status, project)


def _list(limit: int | None, status: str | None, project: str | None) -> list[Task]:
    wanted = None if status is None else to_status(status)
    per_page = min(limit or _PAGE, _PAGE)
    found: list[Task] = []
    page = 1
    while limit is None or len(found) < limit:
        rows = api().get(
            "/tasks",
            page=page,
            per_page=per_page,
            status=wanted and wanted.value,
            project=project,
        )["tasks"]
        found += [Task.from_api_info(row) for row in rows]
        if len(rows) < per_page:
            break
        page += 1
    return found[:limit]


def to_dict(list_of_tasks: Iterable[Task]) -> Mapping[str, list[Any]]:
    """The tasks as columns: `{"ID": [...], "Simulator": [...], ...}`."""
    columns: dict[str, list[Any]] = {
        "ID": [],
        "Simulator": [],
        "Status": [],
        "Submitted": [],
        "Started": [],
        "Computation Time": [],
        "Resource Type": [],
        "Project": [],
    }
    for task in list_of_tasks:
        info = task.info
        columns["ID"].append(task.id)
        columns["Simulator"].append(info["simulator"])
        columns["Status"].append(TABLE[info.status].label)
        columns["Submitted"].append(info["create_time"])
        columns["Started"].append(info["start_time"])
        columns["Computation Time"].append(task.get_computation_time(cached=True))
        columns["Resource Type"].append(info.machine_type)
        columns["Project"].append(info["project"])
    return columns


def require(task_id: str) -> Task:
    """The task with this id.

    Raises:
        InvalidInput: this is not an id.
        NotFound: there is none.
    """
    task = Task(task_id.strip().lower())
    if not task.id.isalnum():
        raise InvalidInput(f"task_id: {task_id!r} is not a task id.")
    task.get_info()
    return task
