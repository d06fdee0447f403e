"""What Simherd's tasks have beyond the published contract: log lines, moving a deadline,
the history of its attempts."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.routes.tasks import get_task, owned_task
from scheduler.api.serializers import attempt_json, usage_json
from scheduler.api.strict import StrictRouter
from scheduler.services.billing.costs import attempt_cost
from scheduler.services.tasks.explain import explain_task
from scheduler.services.tasks.extend import extend_task
from scheduler.store.models import AttemptRow, MachineRow, UsageSample
from simherd.contract import limits

router = StrictRouter(prefix="/v1/tasks", tags=["tasks"])


class Extension(BaseModel):
    """By how much a task may live longer."""

    model_config = ConfigDict(extra="forbid")
    seconds: float = Field(gt=0, le=limits.MAX_TTL_S, allow_inf_nan=False)


@router.get("/{task_id}/usage")
def get_usage(rt: RuntimeDep, user: UserDep, task_id: str) -> list[dict[str, Any]]:
    """What the task used over time: a sample a minute, later one in five minutes."""
    owned_task(rt, user, task_id)
    with rt.store.read() as session:
        rows = session.scalars(
            select(UsageSample).where(UsageSample.task_id == task_id).order_by(UsageSample.at)
        ).all()
    return [usage_json(row) for row in rows]


@router.get("/{task_id}/explain")
def explain(rt: RuntimeDep, user: UserDep, task_id: str) -> dict[str, Any]:
    """Why the task waits."""
    task = owned_task(rt, user, task_id)
    return asdict(explain_task(rt, task, time.time()))


@router.get("/{task_id}/attempts")
def get_attempts(rt: RuntimeDep, user: UserDep, task_id: str) -> list[dict[str, Any]]:
    """Every attempt that was taken up, first one first: where it ran, how it ended, its cost."""
    owned_task(rt, user, task_id)
    now = time.time()
    with rt.store.read() as session:
        rows = session.execute(
            select(AttemptRow, MachineRow.name)
            .outerjoin(MachineRow, MachineRow.id == AttemptRow.machine_id)
            .where(AttemptRow.task_id == task_id)
            .order_by(AttemptRow.attempt)
        ).all()
    return [attempt_json(row, name, attempt_cost(row, now)) for row, name in rows]


@router.post("/{task_id}/extend")
def extend(rt: RuntimeDep, user: UserDep, task_id: str, asked: Extension) -> dict[str, Any]:
    """Move a task's deadline; answers the task with the new one."""
    extend_task(rt, user.id, task_id, asked.seconds)
    return get_task(rt, user, task_id)
