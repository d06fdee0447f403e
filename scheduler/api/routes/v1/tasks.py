"""Tasks beyond the published contract: resource usage, explanation, attempts, deadline."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from pydantic import Field

from scheduler.api.bounded import StrictBody
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.serializers import attempt_json, task_details_json, usage_json
from scheduler.api.strict import StrictRouter
from scheduler.services import transaction
from scheduler.services.tasks import listing
from scheduler.services.tasks.explain import explain_task
from scheduler.services.tasks.extend import extend_task
from simherd.contract import limits

router = StrictRouter(prefix="/v1/tasks", tags=["tasks"])


class Extension(StrictBody):
    """By how much a task may live longer."""

    seconds: float = Field(gt=0, le=limits.MAX_TTL_S, allow_inf_nan=False)


@router.get("/{task_id}/usage")
def get_usage(rt: RuntimeDep, user: UserDep, task_id: str) -> list[dict[str, Any]]:
    """What the task used over time: a sample a minute, later one in five minutes."""
    samples = transaction.read(rt, listing.usage_samples, user.id, task_id)
    return [usage_json(sample) for sample in samples]


@router.get("/{task_id}/explain")
def explain(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """Why the task waits."""
    task = listing.owned_task(rt, user.id, task_id)
    return asdict(explain_task(rt, task, time.time()))


@router.get("/{task_id}/attempts")
def get_attempts(rt: RuntimeDep, user: UserDep, task_id: str) -> list[dict[str, Any]]:
    """Every attempt that was claimed, in order: where it ran, how it ended, its cost."""
    attempts = transaction.read(rt, listing.attempts_of, user.id, task_id, time.time())
    return [attempt_json(*attempt) for attempt in attempts]


@router.post("/{task_id}/extend")
def extend(rt: RuntimeDep, user: UserDep, task_id: str, extension: Extension) -> dict[str, Any]:
    """Move a task's deadline; returns the task with the new one."""
    extend_task(rt, user.id, task_id, extension.seconds)
    return task_details_json(listing.task_details(rt, user.id, task_id))
