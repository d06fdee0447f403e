"""Projects."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict

import scheduler.api.middleware.encoded_paths  # noqa: F401  the paths below use its {name:name}
from scheduler.api.bounded import Metadata, Name, Page
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.serializers import project_json
from scheduler.api.strict import StrictRouter
from scheduler.services.projects import projects
from scheduler.services.projects.table import project_table
from scheduler.services.transaction import read, write
from simherd.contract.lifecycle import Status

router = StrictRouter(prefix="/projects", tags=["projects"])

ProjectType = Literal["project", "benchmark"]


class ProjectRequest(BaseModel):
    """A new project."""

    model_config = ConfigDict(extra="ignore")
    name: Name
    project_type: ProjectType = "project"


class ProjectUpdate(BaseModel):
    """A project's new name."""

    model_config = ConfigDict(extra="ignore")
    name: Name


@router.get("")
def list_projects(
    rt: RuntimeDep,
    user: UserDep,
    page: Page = 1,
    per_page: Annotated[int | None, Query(ge=1, le=500)] = None,
    project_type: ProjectType | None = None,
) -> list[dict[str, Any]]:
    """The user's projects, newest first; all of them without `per_page`."""
    states = read(rt, projects.project_states, user.id, page, per_page, project_type)
    return [project_json(state) for state in states]


@router.post("")
def create_project(rt: RuntimeDep, user: UserDep, body: ProjectRequest) -> dict[str, Any]:
    """Create a project, or return the one of this name."""
    write(rt, projects.ensure_project, user.id, body.name, body.project_type)
    return project_json(read(rt, projects.project_state, user.id, body.name))


@router.delete("", status_code=202)
def delete_project(rt: RuntimeDep, user: UserDep, project_name: str) -> dict[str, str]:
    """Delete a project; its tasks move to the default one."""
    write(rt, projects.delete_project, user.id, project_name)
    return {"name": project_name}


@router.get("/{name:name}")
def get_project(rt: RuntimeDep, user: UserDep, name: str) -> dict[str, Any]:
    """One project by name."""
    return project_json(read(rt, projects.project_state, user.id, name))


@router.patch("/{name:name}")
def rename_project(rt: RuntimeDep, user: UserDep, name: str, body: ProjectUpdate) -> dict[str, Any]:
    """Give a project another name."""
    write(rt, projects.rename_project, user.id, name, body.name)
    return project_json(read(rt, projects.project_state, user.id, body.name))


@router.get("/{name:name}/tasks_info")
def tasks_info(
    rt: RuntimeDep,
    user: UserDep,
    name: str,
    select: Literal["all", "distinct"] = "distinct",
    status: Status | None = None,
) -> list[dict[str, Any]]:
    """A project's tasks as flat rows: parameters, times and costs."""
    distinct = select == "distinct"
    return read(rt, project_table, user.id, name, time.time(), status=status, distinct=distinct)


@router.post("/{name:name}/task/{task_id}/add")
def add_task(rt: RuntimeDep, user: UserDep, name: str, task_id: str) -> dict[str, str]:
    """Move a task into a project."""
    write(rt, projects.add_task, user.id, name, task_id)
    return {"name": name, "task_id": task_id}


@router.post("/{name:name}/task/{task_id}/remove")
def remove_task(rt: RuntimeDep, user: UserDep, name: str, task_id: str) -> dict[str, str]:
    """Move a task from a project to the default one."""
    write(rt, projects.remove_task, user.id, name, task_id)
    return {"name": projects.DEFAULT_PROJECT, "task_id": task_id}


@router.get("/{name:name}/metadata")
def get_metadata(rt: RuntimeDep, user: UserDep, name: str) -> dict[str, str]:
    """A project's metadata."""
    return read(rt, projects.named_project, user.id, name).project_metadata


@router.put("/{name:name}/metadata")
def set_metadata(rt: RuntimeDep, user: UserDep, name: str, metadata: Metadata) -> dict[str, str]:
    """Replace a project's metadata."""
    return write(rt, projects.set_metadata, user.id, name, metadata)


@router.patch("/{name:name}/metadata")
def update_metadata(rt: RuntimeDep, user: UserDep, name: str, metadata: Metadata) -> dict[str, str]:
    """Add to a project's metadata."""
    return write(rt, projects.set_metadata, user.id, name, metadata, keep=True)
