"""A project's tasks as a table: what each was run with, how long it took, what it cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from scheduler.domain.attempt_numbers import retries
from scheduler.services.billing.costs import costs_of_tasks
from scheduler.services.projects.projects import named_project
from scheduler.store.models import TaskRow
from simherd.contract.operations import Metric
from simherd.contract.task_options import as_sent

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from simherd.contract.lifecycle import Status

#: The columns that every table has, in their order.
_ALWAYS = (
    "task_id",
    "simulator",
    "machine_type",
    "computation_time (s)",
    "estimated_computation_cost (US$)",
)
#: What every submission repeats, or holds only for the server.
_SAID_ELSEWHERE = frozenset({"sim_dir", "container_image"})


def project_table(
    session: Session, user_id: str, name: str, now: float, *, status: Status | None, distinct: bool
) -> list[dict[str, Any]]:
    """A flat row for each task, oldest first; all rows have the same keys.

    `now`: seconds since the epoch, until which a running attempt costs; `status`: only tasks that
    have it; `distinct`: only parameters that differ between the tasks.

    Raises ResourceNotFound: the user has no such project.
    """
    project = named_project(session, user_id, name)
    query = select(TaskRow).where(TaskRow.project_id == project.id).order_by(TaskRow.seq)
    if status is not None:
        query = query.where(TaskRow.status == status.value)
    tasks = session.scalars(query).all()
    costs = costs_of_tasks(session, (t.id for t in tasks), now)
    parameters = [_parameters(task) for task in tasks]
    names = sorted(set().union(*parameters))
    if distinct:
        names = [n for n in names if len({p.get(n) for p in parameters}) > 1]
    return [
        {**_measured(task, costs.get(task.id, 0.0)), **{n: given.get(n) for n in names}}
        for task, given in zip(tasks, parameters, strict=True)
    ]


def _measured(task: TaskRow, cost: float) -> dict[str, Any]:
    machine = str((task.executer or {}).get("vm_type", "")).rpartition("/")[2] or None
    computed = task.metrics.get(Metric.COMPUTATION_SECONDS.value)
    values = (task.id, task.simulator_alias or task.simulator, machine, computed, round(cost, 6))
    return dict(zip(_ALWAYS, values, strict=True))


def _parameters(task: TaskRow) -> dict[str, str | float | None]:
    """What a task was run with: flat, and each value a text or a number."""
    parameters: dict[str, Any] = {
        "status": task.status,
        "container_image": task.container_image,
        "time_to_live_seconds": task.time_to_live_s,
        "num_retries": retries(task.attempt, task.attempt_floor, task.attempts_before),
    }
    for name, value in as_sent(task.extra_params, task.id).items():
        if name == "commands":
            parameters[name] = "; ".join(str(c["cmd"]) for c in value)
        elif name not in _SAID_ELSEWHERE and value not in (None, {}, []):
            parameters[name] = value
    parameters |= {f"metadata.{name}": text for name, text in task.task_metadata.items()}
    flat = (str, int, float, type(None))
    return {
        name: value if isinstance(value, flat) else json.dumps(value, sort_keys=True)
        for name, value in parameters.items()
    }
