"""Users and their keys."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from scheduler.services.ids import new_uuid
from scheduler.services.projects.projects import DEFAULT_PROJECT, ensure_project
from scheduler.store.models import ApiKey, User

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session


def key_digest(key: str) -> str:
    """Return the digest that is stored of a key: for a long random key, a plain hash will do."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_user(
    session: Session, username: str, email: str, *, quotas: Mapping[str, float] | None = None
) -> User:
    """Create a user with a default project.
    `quotas`: the quotas, as `StoreSettings.quotas_of_new_users` says; None: nothing is limited."""
    user = User(
        id=new_uuid(),
        username=username,
        email=email,
        created_at=time.time(),
        quotas=dict(quotas or {}),
    )
    session.add(user)
    session.flush()
    ensure_project(session, user.id, DEFAULT_PROJECT)
    return user


def create_key(session: Session, user_id: str, label: str, key: str | None = None) -> str:
    """Create an API key of a user and return it; only its digest is stored."""
    key = key or f"sh_{secrets.token_urlsafe(32)}"
    session.merge(
        ApiKey(
            digest=key_digest(key),
            user_id=user_id,
            label=label,
            created_at=time.time(),
            revoked_at=None,
        )
    )
    return key


def user_of_key(session: Session, key: str) -> User | None:
    """Return the user of a key; None if it is unknown, revoked or expired.
    The user may be disabled: the caller has to check that."""
    return session.scalar(
        select(User)
        .join(ApiKey, ApiKey.user_id == User.id)
        .where(ApiKey.digest == key_digest(key), is_usable())
    )


def is_usable() -> ColumnElement[bool]:
    """Return the condition that a key is neither revoked nor expired."""
    in_time = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > time.time())
    return and_(ApiKey.revoked_at.is_(None), in_time)
