"""Rows for tests of the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scheduler.services.accounts.users import create_user
from scheduler.services.ids import new_task_id, new_uuid
from scheduler.services.projects.projects import ensure_project
from scheduler.store.models import GroupRow, StatusChange, TaskRow
from simherd.contract.lifecycle import Status

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def make_group(session: Session, **fields: Any) -> GroupRow:
    """A started machine group of a new user."""
    name = new_uuid()[:8]
    user = create_user(session, name, f"{name}@localhost")
    values: dict[str, Any] = {
        "id": new_uuid(),
        "user_id": user.id,
        "name": name,
        "wire_provider": "LOCAL",
        "provider": "local",
        "machine_type": "local",
        "zone": "local-a",
        "group_type": "standard",
        "is_elastic": False,
        "spot": False,
        "num_machines": 1,
        "min_machines": 1,
        "max_machines": 1,
        "disk_size_gb": 10,
        "threads_per_core": 2,
        "vcpus": 2,
        "memory_bytes": 1024**3,
        "price_hour": 0.1,
        "status": "started",
        "created_at": time.time(),
    }
    group = GroupRow(**{**values, **fields})
    session.add(group)
    session.flush()
    return group


def make_task(session: Session, group: GroupRow, **fields: Any) -> TaskRow:
    """A task of the group with one entry in its history."""
    project = ensure_project(session, group.user_id, "default")
    now = time.time()
    values: dict[str, Any] = {
        "id": new_task_id(),
        "user_id": group.user_id,
        "project_id": project.id,
        "group_id": group.id,
        "status": Status.SUBMITTED.value,
        "attempt": 1,
        "simulator": "arbitrary_commands",
        "container_image": "any",
        "storage_prefix": "",
        "resubmit": False,
        "stream_zip": True,
        "compress_with": "AUTO",
        "extra_params": {"commands": [{"cmd": "true"}]},
        "input_resources": [],
        "create_time": now,
        "input_submit_time": now,
    }
    task = TaskRow(**{**values, **fields})
    session.add(task)
    session.flush()
    session.add(
        StatusChange(
            task_id=task.id, attempt=task.attempt, status=task.status, at=now, description="made"
        )
    )
    session.flush()
    return task
