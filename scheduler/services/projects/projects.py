"""Projects: named sets of one user's tasks. A task is always in one of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from scheduler.services.billing.costs import costs_of_projects
from scheduler.services.errors import Conflict, Invalid, ResourceNotFound
from scheduler.services.ids import new_uuid
from scheduler.store.models import ProjectRow, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

#: The project of tasks that name none.
DEFAULT_PROJECT = "default"
#: Texts of a project's metadata. How long each may be, is checked by the API.
_MOST_METADATA = 100


def find_project(session: Session, user_id: str, name: str) -> ProjectRow | None:
    """A user's project by name."""
    return session.scalar(select(ProjectRow).where(*_by_name(user_id, name)))


def _by_name(user_id: str, name: str) -> tuple[ColumnElement[bool], ...]:
    return ProjectRow.user_id == user_id, ProjectRow.name == name


def named_project(session: Session, user_id: str, name: str) -> ProjectRow:
    """Return a user's project by name. Raises ResourceNotFound."""
    return _existing(find_project(session, user_id, name), name)


def _locked_project(session: Session, user_id: str, name: str) -> ProjectRow:
    """Return a project, locked until this transaction ends against changes and new tasks."""
    query = select(ProjectRow).where(*_by_name(user_id, name)).with_for_update()
    return _existing(session.scalar(query), name)


def _kept_project(session: Session, user_id: str, name: str) -> ProjectRow | None:
    """Return a project, locked against deletion until this transaction ends."""
    query = select(ProjectRow).where(*_by_name(user_id, name))
    return session.scalar(query.with_for_update(read=True, key_share=True))


def _existing(project: ProjectRow | None, name: str) -> ProjectRow:
    if project is None:
        raise ResourceNotFound(f"name: there is no project {name!r}.")
    return project


def ensure_project(
    session: Session, user_id: str, name: str, project_type: str = "project"
) -> ProjectRow:
    """Return a user's project, created if there is none of this name.
    Raises Invalid: no project can have this name."""
    existing = _kept_project(session, user_id, name)
    if existing is not None:
        return existing
    _check_name(name)
    project = ProjectRow(
        id=new_uuid(), user_id=user_id, name=name, project_type=project_type, created_at=time.time()
    )
    try:
        with session.begin_nested():
            session.add(project)
    except IntegrityError:
        # Another request has created it in between.
        return named_project(session, user_id, name)
    return project


def _check_name(name: str) -> None:
    # `.` and `..` would vanish from a URL; what cannot be seen cannot be typed.
    if name in {".", ".."} or not name.isprintable() or name != name.strip():
        raise Invalid(
            f"name: {name!r} cannot be a project's. Leave out line breaks and blanks around it."
        )


@dataclass(frozen=True)
class ProjectState:
    """A project, how many of its tasks have each status, and what they cost so far in US$."""

    project: ProjectRow
    counts: Mapping[str, int]
    cost: float


def project_state(session: Session, user_id: str, name: str) -> ProjectState:
    """Return a project's state. Raises ResourceNotFound."""
    project = named_project(session, user_id, name)
    costs = costs_of_projects(session, user_id, time.time(), name=name)
    counts = status_counts(session, [project])
    return ProjectState(project, counts[project.id], costs.get(name, 0.0))


def project_states(
    session: Session,
    user_id: str,
    page: int = 1,
    per_page: int | None = None,
    project_type: str | None = None,
) -> list[ProjectState]:
    """Return a page of a user's projects, newest first; all of them where `per_page` is None."""
    query = select(ProjectRow).where(ProjectRow.user_id == user_id)
    if project_type is not None:
        query = query.where(ProjectRow.project_type == project_type)
    query = query.order_by(ProjectRow.created_at.desc(), ProjectRow.name)
    if per_page is not None:
        query = query.limit(per_page).offset((page - 1) * per_page)
    elif page > 1:
        return []
    projects = session.scalars(query).all()
    counts = status_counts(session, projects)
    costs = costs_of_projects(session, user_id, time.time())
    return [ProjectState(p, counts[p.id], costs.get(p.name, 0.0)) for p in projects]


def status_counts(session: Session, projects: Iterable[ProjectRow]) -> dict[str, dict[str, int]]:
    """Project id → status → how many of its tasks have it, by one query."""
    counts: dict[str, dict[str, int]] = {project.id: {} for project in projects}
    rows = session.execute(
        select(TaskRow.project_id, TaskRow.status, func.count())
        .where(TaskRow.project_id.in_(list(counts)))
        .group_by(TaskRow.project_id, TaskRow.status)
    )
    for project_id, status, count in rows:
        counts[project_id][status] = count
    return counts


def delete_project(session: Session, user_id: str, name: str) -> None:
    """Delete a project; its tasks move to the default one.

    Raises:
        ResourceNotFound: there is none of this name.
        Conflict: it is the default one.
    """
    project = _locked_project(session, user_id, name)
    if name == DEFAULT_PROJECT:
        raise Conflict(f"project_name: {name!r} takes what has no other project, and stays.")
    home = ensure_project(session, user_id, DEFAULT_PROJECT)
    session.execute(
        update(TaskRow).where(TaskRow.project_id == project.id).values(project_id=home.id)
    )
    session.delete(project)


def rename_project(session: Session, user_id: str, name: str, new_name: str) -> ProjectRow:
    """Give a project another name.

    Raises:
        ResourceNotFound: there is none of this name.
        Conflict: it is the default one, or the new name is taken.
        Invalid: no project can have the new name.
    """
    project = _locked_project(session, user_id, name)
    if new_name == name:
        return project
    if name == DEFAULT_PROJECT:
        raise Conflict(f"name: {name!r} takes what has no other project, and keeps its name.")
    _check_name(new_name)
    if find_project(session, user_id, new_name) is not None:
        raise Conflict(f"name: you have a project {new_name!r} already.")
    project.name = new_name
    session.flush()
    return project


def add_task(session: Session, user_id: str, name: str, task_id: str) -> None:
    """Move a task into a project.
    Raises ResourceNotFound: there is no such project, or no such task."""
    project = _existing(_kept_project(session, user_id, name), name)
    _own_task(session, user_id, task_id).project_id = project.id


def remove_task(session: Session, user_id: str, name: str, task_id: str) -> None:
    """Move a task out of a project, into the default one.
    Raises ResourceNotFound: there is no such project, no such task, or it is in another project."""
    project = named_project(session, user_id, name)
    task = _own_task(session, user_id, task_id)
    if task.project_id != project.id:
        raise ResourceNotFound(f"task_id: task {task_id} is not in the project {name!r}.")
    task.project_id = ensure_project(session, user_id, DEFAULT_PROJECT).id


def _own_task(session: Session, user_id: str, task_id: str) -> TaskRow:
    task = session.scalar(
        select(TaskRow).where(TaskRow.id == task_id, TaskRow.user_id == user_id).with_for_update()
    )
    if task is None:
        raise ResourceNotFound(f"task_id: there is no task {task_id!r}.")
    return task


def set_metadata(
    session: Session, user_id: str, name: str, metadata: dict[str, str], *, keep: bool = False
) -> dict[str, str]:
    """Replace a project's metadata, or (`keep`) add to it, and return it.

    Raises:
        ResourceNotFound: there is no such project.
        Invalid: there are too many texts.
    """
    project = _locked_project(session, user_id, name)
    texts = {**project.project_metadata, **metadata} if keep else dict(metadata)
    if len(texts) > _MOST_METADATA:
        raise Invalid(f"metadata: {len(texts)} texts; {_MOST_METADATA} are allowed.")
    project.project_metadata = texts
    return texts
