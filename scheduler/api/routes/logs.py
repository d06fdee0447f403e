"""A task's output while it runs, and afterwards."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from scheduler.api.deps import PartsDep, UserDep
from scheduler.api.routes.tasks import owned_task
from scheduler.services.read_log import read_log

router = APIRouter(prefix="/v1/tasks", tags=["logs"])


@router.get("/{task_id}/log")
def get_log(
    parts: PartsDep,
    user: UserDep,
    task_id: str,
    stream: Literal["stdout", "stderr"] = "stdout",
    after: str = "",
    wait_s: Annotated[float, Query(ge=0, le=20)] = 0,
) -> dict[str, Any]:
    """What was written after the cursor `after`; waits up to `wait_s` seconds for some."""
    return read_log(parts, owned_task(parts, user, task_id), stream, after, wait_s)
