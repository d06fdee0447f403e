"""Tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Header, Query

from scheduler.api.bounded import Metadata, Page
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.serializers import task_details_json, task_json, task_status_json
from scheduler.api.strict import StrictRouter
from scheduler.api.submissions import Key, TaskRequest
from scheduler.services import transaction
from scheduler.services.tasks import listing
from scheduler.services.tasks.enqueue import inputs_uploaded
from scheduler.services.tasks.kill import kill_task
from scheduler.services.tasks.submit import submit_tasks
from simherd.contract.lifecycle import TERMINAL, Status

if TYPE_CHECKING:
    from scheduler.wiring import Runtime

router = StrictRouter(prefix="/tasks", tags=["tasks"])


def _status(rt: Runtime, user_id: str, task_id: str) -> dict[str, Any]:
    task = listing.owned_task(rt, user_id, task_id)
    return task_status_json(task, listing.tasks_ahead(rt, task))


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
    total, tasks = transaction.read(
        rt, listing.list_tasks, user.id, page, per_page, status=status, project=project
    )
    rows = [task_json(t.task, t.project, t.group, t.cost) for t in tasks]
    return {"total_size": total, "tasks": rows}


@router.post("/submit", status_code=202)
def submit(
    rt: RuntimeDep,
    user: UserDep,
    body: TaskRequest,
    idempotency_key: Annotated[Key | None, Header()] = None,
) -> dict[str, Any]:
    """Make a task that waits for its input, or find the one that the same request has made."""
    (made,) = submit_tasks(rt, user.id, [body.submission(idempotency_key)])
    return {
        "id": made.task_id,
        "status": made.status.value,
        "position_in_queue": None,
        "is_terminated": made.status in TERMINAL,
        "time_to_live_seconds": body.time_to_live_s,
    }


@router.post("/{task_id}/input_uploaded")
def input_is_there(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """The input has been uploaded: queue the task."""
    inputs_uploaded(rt, user.id, [task_id])
    return _status(rt, user.id, task_id)


@router.get("/{task_id}")
def get_task(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """Everything about a task, with its history."""
    return task_details_json(listing.task_details(rt, user.id, task_id))


@router.get("/{task_id}/status")
def get_status(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """A task's status and its place in the queue."""
    return _status(rt, user.id, task_id)


@router.post("/{task_id}/kill")
def kill(rt: RuntimeDep, user: UserDep, task_id: str, discard: bool = False) -> dict[str, Any]:
    """Ask for a task to be killed; with `discard`, without storing what it has put out."""
    kill_task(rt, user.id, task_id, discard=discard)
    return _status(rt, user.id, task_id)


@router.put("/{task_id}/metadata")
def set_metadata(rt: RuntimeDep, user: UserDep, task_id: str, metadata: Metadata) -> dict[str, str]:
    """Replace a task's metadata."""
    transaction.write(rt, listing.set_task_metadata, user.id, task_id, metadata)
    return metadata


@router.get("/{task_id}/metadata")
def get_metadata(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, str]:
    """A task's metadata."""
    return listing.owned_task(rt, user.id, task_id).task_metadata
