"""Many tasks in one request."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from scheduler.api.bounded import Id, StrictBody
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.strict import StrictRouter
from scheduler.api.submissions import KeyedRequest
from scheduler.objects.file_urls import COUNTED_UPLOAD
from scheduler.services.tasks.enqueue import inputs_uploaded
from scheduler.services.tasks.submit import submit_tasks
from simherd.contract import limits, objects
from simherd.contract.lifecycle import Status

BATCH = "/v1/tasks/batch"
router = StrictRouter(prefix=BATCH, tags=["tasks"])


class Batch(StrictBody):
    """The tasks."""

    tasks: list[KeyedRequest] = Field(min_length=1, max_length=limits.MAX_BATCH)


class Uploaded(StrictBody):
    """Those whose inputs are there."""

    ids: list[Id] = Field(min_length=1, max_length=limits.MAX_BATCH)


@router.post("", status_code=202)
def submit(rt: RuntimeDep, user: UserDep, body: Batch) -> list[dict[str, Any]]:
    """Create all of these tasks, or none. Returns the id and status of each and, where it waits for
    an input, the URL to upload that to."""
    submissions = [task.keyed() for task in body.tasks]
    rows = []
    for wanted, made in zip(submissions, submit_tasks(rt, user.id, submissions), strict=True):
        waits = made.status is Status.PENDING_INPUT
        path = objects.input_path(wanted.storage_prefix, made.task_id)
        # Archives are compressed while they are sent, so their size cannot be announced.
        sign = rt.file_urls.sign
        url = sign(user.id, path, COUNTED_UPLOAD, limits.USER_URL_S) if waits else None
        rows.append({"id": made.task_id, "status": made.status.value, "upload_url": url})
    return rows


@router.post("/input_uploaded")
def inputs_are_there(rt: RuntimeDep, user: UserDep, body: Uploaded) -> dict[str, int]:
    """The inputs of these tasks have been uploaded: queue them."""
    inputs_uploaded(rt, user.id, body.ids)
    return {"queued": len(body.ids)}
