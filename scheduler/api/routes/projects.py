"""Projects."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

import scheduler.api.middleware.encoded_paths  # noqa: F401  the paths below use its {name:name}
from scheduler.api.bounded import Metadata, Name, Page
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.serializers import project_json
from scheduler.api.strict import StrictRouter
from scheduler.services.billing.costs import costs_of_projects
from scheduler.services.projects import projects
from scheduler.services.projects.table import project_table
from scheduler.store.models import ProjectRow
from simherd.contract.lifecycle import Status

router = StrictRouter(prefix="/projects", tags=["projects"])

ProjectType = Literal["project", "benchmark"]


class ProjectRequest(BaseModel):
    """A new project."""

    model_config = ConfigDict(extra="ignore")
    name: Name
    project_type: ProjectType = "project"


class ProjectUpdate(BaseModel):
    """What a project is to be called."""

    model_config = ConfigDict(extra="ignore")
    name: Name


def _json(session: Session, project: ProjectRow) -> dict[str, Any]:
    costs = costs_of_projects(session, project.user_id, time.time(), name=project.name)
    counts = projects.status_counts(session, [project])
    return project_json(project, counts[project.id], costs.get(project.name, 0.0))


@router.get("")
def list_projects(
    rt: RuntimeDep,
    user: UserDep,
    page: Page = 1,
    per_page: Annotated[int | None, Query(ge=1, le=500)] = None,
    project_type: ProjectType | None = None,
) -> list[dict[str, Any]]:
    """The user's projects, newest first; all of them where no page's size is given."""
    with rt.store.read() as session:
        found = projects.list_projects(session, user.id, page, per_page, project_type)
        counts = projects.status_counts(session, found)
        costs = costs_of_projects(session, user.id, time.time())
        return [project_json(p, counts[p.id], costs.get(p.name, 0.0)) for p in found]


@router.post("")
def create_project(rt: RuntimeDep, user: UserDep, asked: ProjectRequest) -> dict[str, Any]:
    """Make a project, or find it made."""
    with rt.store.write() as session:
        project = projects.ensure_project(session, user.id, asked.name, asked.project_type)
        return _json(session, project)


@router.delete("", status_code=202)
def delete_project(rt: RuntimeDep, user: UserDep, project_name: str) -> dict[str, str]:
    """Delete a project; its tasks move to the default one."""
    with rt.store.write() as session:
        projects.delete_project(session, user.id, project_name)
    return {"name": project_name}


@router.get("/{name:name}")
def get_project(rt: RuntimeDep, user: UserDep, name: str) -> dict[str, Any]:
    """One project by name."""
    with rt.store.read() as session:
        return _json(session, projects.named_project(session, user.id, name))


@router.patch("/{name:name}")
def rename_project(
    rt: RuntimeDep, user: UserDep, name: str, asked: ProjectUpdate
) -> dict[str, Any]:
    """Give a project another name."""
    with rt.store.write() as session:
        return _json(session, projects.rename_project(session, user.id, name, asked.name))


@router.get("/{name:name}/tasks_info")
def tasks_info(
    rt: RuntimeDep,
    user: UserDep,
    name: str,
    select: Literal["all", "distinct"] = "distinct",
    status: Status | None = None,
) -> list[dict[str, Any]]:
    """A project's tasks as flat rows: parameters, times and costs."""
    with rt.store.read() as session:
        project = projects.named_project(session, user.id, name)
        return project_table(
            session, project, time.time(), status=status, distinct=select == "distinct"
        )


@router.post("/{name:name}/task/{task_id}/add")
def add_task(rt: RuntimeDep, user: UserDep, name: str, task_id: str) -> dict[str, str]:
    """Move a task into a project."""
    with rt.store.write() as session:
        projects.add_task(session, user.id, name, task_id)
    return {"name": name, "task_id": task_id}


@router.post("/{name:name}/task/{task_id}/remove")
def remove_task(rt: RuntimeDep, user: UserDep, name: str, task_id: str) -> dict[str, str]:
    """Move a task from a project to the default one."""
    with rt.store.write() as session:
        projects.remove_task(session, user.id, name, task_id)
    return {"name": projects.DEFAULT_PROJECT, "task_id": task_id}


@router.get("/{name:name}/metadata")
def get_metadata(rt: RuntimeDep, user: UserDep, name: str) -> dict[str, str]:
    """The texts that are kept with a project."""
    with rt.store.read() as session:
        return projects.named_project(session, user.id, name).project_metadata


@router.put("/{name:name}/metadata")
def set_metadata(rt: RuntimeDep, user: UserDep, name: str, metadata: Metadata) -> dict[str, str]:
    """Replace them."""
    with rt.store.write() as session:
        return projects.set_metadata(session, user.id, name, metadata)


@router.patch("/{name:name}/metadata")
def update_metadata(rt: RuntimeDep, user: UserDep, name: str, metadata: Metadata) -> dict[str, str]:
    """Add to them."""
    with rt.store.write() as session:
        return projects.set_metadata(session, user.id, name, metadata, keep=True)
