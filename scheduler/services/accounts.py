"""Users, their keys and their projects."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.services.ids import new_uuid
from scheduler.store.models import ApiKey, Project, User

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

#: The project of tasks that name none.
DEFAULT_PROJECT = "default"


def digest(key: str) -> str:
    """What is stored of a key. Keys are long and random: a plain hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_user(session: Session, username: str, email: str) -> User:
    """A new user with a default project."""
    user = User(id=new_uuid(), username=username, email=email, created_at=time.time())
    session.add(user)
    session.flush()
    ensure_project(session, user.id, DEFAULT_PROJECT)
    return user


def create_key(session: Session, user_id: str, label: str, key: str | None = None) -> str:
    """A new API key of a user; this is the only time that it can be read."""
    key = key or f"sh_{secrets.token_urlsafe(32)}"
    session.merge(
        ApiKey(
            digest=digest(key),
            user_id=user_id,
            label=label,
            created_at=time.time(),
            revoked_at=None,
        )
    )
    return key


def user_of_key(session: Session, key: str) -> User | None:
    """Whose key it is; None for an unknown or revoked one."""
    return session.scalar(
        select(User)
        .join(ApiKey, ApiKey.user_id == User.id)
        .where(ApiKey.digest == digest(key), ApiKey.revoked_at.is_(None))
    )


def find_project(session: Session, user_id: str, name: str) -> Project | None:
    """A user's project by name."""
    return session.scalar(select(Project).where(Project.user_id == user_id, Project.name == name))


def ensure_project(
    session: Session, user_id: str, name: str, project_type: str = "project"
) -> Project:
    """A user's project, made if it is not there."""
    found = find_project(session, user_id, name)
    if found is None:
        found = Project(
            id=new_uuid(),
            user_id=user_id,
            name=name,
            project_type=project_type,
            created_at=time.time(),
        )
        session.add(found)
        session.flush()
    return found
