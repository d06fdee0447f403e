"""Finding tasks, and waiting for several of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from simherd.contract import limits
from simherd.contract.lifecycle import TABLE, TERMINAL, Status
from simherd.errors import InvalidInput, WaitTimeout
from simherd.http import api
from simherd.info import TaskInfo
from simherd.output_info import TaskOutputInfo
from simherd.task import Task, to_status
from simherd.visible import say
from simherd.waiting import changes

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


def wait(
    tasks: Iterable[Task], *, silent_mode: bool = False, timeout: float | None = None
) -> list[Status]:
    """Wait until all of these tasks have ended, over one connection; Ctrl-C leaves them running.

    Args:
        tasks: any number of them.
        silent_mode: print nothing; else a line for each that ends.
        timeout: seconds to wait at the most; None: without end.

    Returns:
        The tasks' final statuses, in their order.

    Raises:
        WaitTimeout: some have not ended in time.
        NotFound: there is no such task.
    """
    wanted = list(tasks)
    if timeout is not None and not timeout >= 0:
        raise InvalidInput(f"timeout: {timeout} must not be negative.")
    ids = list(dict.fromkeys(task.id for task in wanted))
    end = None if timeout is None else time.monotonic() + timeout
    found: dict[str, Status] = {}
    for start in range(0, len(ids), limits.MAX_WAITED):
        some = ids[start : start + limits.MAX_WAITED]
        left = None if end is None else max(0.0, end - time.monotonic())
        for state in changes(api(), some, left):
            status = Status(state["status"])
            if status in TERMINAL and state["task_id"] not in found:
                found[state["task_id"]] = status
                if not silent_mode:
                    label = TABLE[status].label
                    say(f"{len(found)}/{len(ids)}  {state['task_id']}  {label}")
    missing = [task for task in ids if task not in found]
    if missing:
        raise WaitTimeout(f"{len(missing)} of {len(ids)} tasks have not ended yet.", missing)
    return [found[task.id] for task in wanted]


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
