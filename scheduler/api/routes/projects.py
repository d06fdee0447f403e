"""Projects."""

from __future__ import annotations

import time
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select

from scheduler.api.deps import PartsDep, UserDep
from scheduler.api.wire import project_json
from scheduler.services.accounts import ensure_project, find_project
from scheduler.services.costs import costs_of_projects
from scheduler.services.errors import NotFound
from scheduler.store.models import Project, Task

router = APIRouter(prefix="/projects", tags=["projects"])


class ProjectRequest(BaseModel):
    """A new project."""

    model_config = ConfigDict(extra="ignore")
    name: str = Field(min_length=1, max_length=128)
    project_type: Literal["project", "benchmark"] = "project"


def _overview(session: Any, project: Project) -> dict[str, int]:
    rows = session.execute(
        select(Task.status, func.count()).where(Task.project_id == project.id).group_by(Task.status)
    )
    return {status: count for status, count in rows}


def _json(session: Any, project: Project) -> dict[str, Any]:
    costs = costs_of_projects(session, project.user_id, time.time(), name=project.name)
    return project_json(project, _overview(session, project), costs.get(project.name, 0.0))


@router.get("")
def list_projects(parts: PartsDep, user: UserDep) -> list[dict[str, Any]]:
    """The user's projects, newest first."""
    with parts.store.read() as session:
        found = session.scalars(
            select(Project).where(Project.user_id == user.id).order_by(Project.created_at.desc())
        ).all()
        costs = costs_of_projects(session, user.id, time.time())
        return [project_json(p, _overview(session, p), costs.get(p.name, 0.0)) for p in found]


@router.post("")
def create_project(parts: PartsDep, user: UserDep, asked: ProjectRequest) -> dict[str, Any]:
    """Make a project, or find it made."""
    with parts.store.write() as session:
        project = ensure_project(session, user.id, asked.name, asked.project_type)
        return _json(session, project)


@router.get("/{name:path}")
def get_project(parts: PartsDep, user: UserDep, name: str) -> dict[str, Any]:
    """One project by name."""
    with parts.store.read() as session:
        project = find_project(session, user.id, name)
        if project is None:
            raise NotFound(f"name: there is no project {name!r}.")
        return _json(session, project)
