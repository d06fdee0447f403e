"""Projects."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select

from scheduler.api.deps import PartsDep, UserDep
from scheduler.api.wire import project_json
from scheduler.services.accounts import ensure_project, find_project
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


@router.get("")
def list_projects(parts: PartsDep, user: UserDep) -> list[dict[str, Any]]:
    """The user's projects, newest first."""
    with parts.store.read() as session:
        found = session.scalars(
            select(Project).where(Project.user_id == user.id).order_by(Project.created_at.desc())
        ).all()
        return [project_json(p, _overview(session, p)) for p in found]


@router.post("")
def create_project(parts: PartsDep, user: UserDep, asked: ProjectRequest) -> dict[str, Any]:
    """Make a project, or find it made."""
    with parts.store.write() as session:
        project = ensure_project(session, user.id, asked.name, asked.project_type)
        return project_json(project, _overview(session, project))


@router.get("/{name:path}")
def get_project(parts: PartsDep, user: UserDep, name: str) -> dict[str, Any]:
    """One project by name."""
    with parts.store.read() as session:
        project = find_project(session, user.id, name)
        if project is None:
            raise NotFound(f"name: there is no project {name!r}.")
        return project_json(project, _overview(session, project))
